# SPDX-License-Identifier: Apache-2.0
"""Per-account Docker images for storlets: inspect, verify, deploy, roll back."""
