# SPDX-License-Identifier: Apache-2.0
"""Who keeps volumes, one module each; the entry points are named in setup.cfg."""
