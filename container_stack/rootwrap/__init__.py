# SPDX-License-Identifier: Apache-2.0
"""The privileged layer: every command that runs as root, and the only room that runs one."""
