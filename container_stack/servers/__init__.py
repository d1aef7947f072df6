# SPDX-License-Identifier: Apache-2.0
"""Core of the compute driver: containers as servers."""
