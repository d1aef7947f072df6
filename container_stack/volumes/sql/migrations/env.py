# SPDX-License-Identifier: Apache-2.0
"""What alembic runs around migrations; :mod:`container_stack.volumes.sql.schema` calls it."""

from alembic import context

_ATTRIBUTES = context.config.attributes

if context.is_offline_mode():
    context.configure(dialect_name=_ATTRIBUTES["kind"], literal_binds=True)
else:
    context.configure(connection=_ATTRIBUTES["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
