# SPDX-License-Identifier: Apache-2.0
"""``container-stack demo``: one walk for each system, on real parts, and back."""
