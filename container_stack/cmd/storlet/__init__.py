# SPDX-License-Identifier: Apache-2.0
"""``container-stack storlet``: images of accounts, from Swift to every node and back."""
