# SPDX-License-Identifier: Apache-2.0
"""An account's image on all nodes, and its history."""
