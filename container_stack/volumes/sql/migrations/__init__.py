# SPDX-License-Identifier: Apache-2.0
"""How the tables came to be as they are; alembic runs this."""
