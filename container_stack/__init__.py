# SPDX-License-Identifier: Apache-2.0
"""OpenStack drivers that stand on Docker and LVM, over one shared host layer."""
