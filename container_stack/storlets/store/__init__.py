# SPDX-License-Identifier: Apache-2.0
"""Images in an object store: transfers, accounts, and looking from afar."""
