# SPDX-License-Identifier: Apache-2.0
"""Shares served from containers: one container a share server, Samba inside."""
