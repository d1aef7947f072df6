# SPDX-License-Identifier: Apache-2.0
"""Public helpers for tests: contract suites for third-party backends, and what they stand on."""
