# SPDX-License-Identifier: Apache-2.0
"""One module per version of the tables; what was released doesn't change any more."""
