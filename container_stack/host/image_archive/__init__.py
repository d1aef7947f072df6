# SPDX-License-Identifier: Apache-2.0
"""Archives of images, as `docker save` writes them and anybody may have forged them."""
