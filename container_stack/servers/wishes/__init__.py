# SPDX-License-Identifier: Apache-2.0
"""What tenants ask of their containers, and what they may."""
