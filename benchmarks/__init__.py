# SPDX-License-Identifier: Apache-2.0
"""Side-by-side measurements; each prints a ratio against a floor measured in the same run."""
