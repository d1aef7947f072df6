# SPDX-License-Identifier: Apache-2.0
"""An image in its maker's hands: built from a Dockerfile, and tried."""
