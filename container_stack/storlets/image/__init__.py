# SPDX-License-Identifier: Apache-2.0
"""What a stranger's image archive is, read without trusting it."""
