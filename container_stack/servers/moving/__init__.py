# SPDX-License-Identifier: Apache-2.0
"""Servers that change their container or their host, and what stands aside for them."""
