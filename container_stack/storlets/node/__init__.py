# SPDX-License-Identifier: Apache-2.0
"""What happens to an account's image on one node."""
