# SPDX-License-Identifier: Apache-2.0
"""Shares served from containers: one container a share server, with Samba, and Ganesha for NFS."""
