# SPDX-License-Identifier: Apache-2.0
"""Options as operators write them, one module per section, and the plain values made of them."""
