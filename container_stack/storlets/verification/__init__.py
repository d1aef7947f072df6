# SPDX-License-Identifier: Apache-2.0
"""Whether an image may be deployed."""
