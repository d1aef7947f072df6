# SPDX-License-Identifier: Apache-2.0
"""Adapters, one per service: they translate vocabulary and decide nothing."""
