# SPDX-License-Identifier: Apache-2.0
"""A simulator of a Datera EDF array: its REST API before a real iSCSI target."""
