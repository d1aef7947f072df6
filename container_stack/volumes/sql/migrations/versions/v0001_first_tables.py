# SPDX-License-Identifier: Apache-2.0
"""The first tables."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")
# 64 labels of 255 characters may be longer than MySQL's TEXT.
_JSON = sa.Text().with_variant(mysql.MEDIUMTEXT(), "mysql")
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_ID = sa.String(36)
# By code point on every database: MySQL would take "Data" for "data", PostgreSQL sort as people do.
_NAME = sa.String(128).with_variant(sa.String(128, collation="C"), "postgresql")
# What a node calls itself is the operator's choice.
_NODE = sa.String(255)
_HOW: dict[str, Any] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mysql_collate": "utf8mb4_bin",
    # An id that was seen never comes back.
    "sqlite_autoincrement": True,
}
_ALIKE: dict[str, Any] = {
    key: value for key, value in _HOW.items() if key != "sqlite_autoincrement"
}


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "volumes",
        sa.Column("id", _ID, primary_key=True),
        sa.Column("driver", _NAME, nullable=False),
        sa.Column("name", _NAME, nullable=False),
        sa.Column("spec", _JSON, nullable=False),
        sa.Column("config_labels", _JSON, nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("labels", _JSON, nullable=False),
        sa.Column("parent", _ID, nullable=False),
        sa.Column("seed", sa.Text(), nullable=False),
        sa.Column("read_only", sa.Boolean(), nullable=False),
        sa.Column("state", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("node_id", _NODE, nullable=False),
        sa.Column("attached_on", _NODE, nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("device_path", sa.Text(), nullable=False),
        sa.Column("mount_paths", _JSON, nullable=False),
        sa.Column("format", sa.String(16), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.Column("last_scan", _MOMENT),
        sa.Column("error", sa.Text(), nullable=False),
        sa.UniqueConstraint("driver", "name", name="volumes_name"),
        **_ALIKE,
    )
    op.create_table(
        "nodes",
        sa.Column("id", _NODE, primary_key=True),
        sa.Column("hostname", sa.String(255), nullable=False),
        sa.Column("management_ip", sa.String(64), nullable=False),
        sa.Column("data_ip", sa.String(64), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("cpu", sa.Double(), nullable=False),
        sa.Column("memory_total", sa.BigInteger(), nullable=False),
        sa.Column("memory_used", sa.BigInteger(), nullable=False),
        sa.Column("load", sa.Double(), nullable=False),
        sa.Column("timestamp", _MOMENT, nullable=False),
        **_ALIKE,
    )
    op.create_table(
        "events",
        sa.Column("id", _SERIAL, primary_key=True, autoincrement=True),
        sa.Column("at", _MOMENT, nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("driver", _NAME, nullable=False),
        sa.Column("volume_id", _ID, nullable=False),
        sa.Column("node_id", _NODE, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        **_HOW,
    )
    op.create_table(
        "samples",
        sa.Column("volume_id", _ID, primary_key=True),
        sa.Column("at", _MOMENT, primary_key=True),
        sa.Column("used", sa.BigInteger(), nullable=False),
        **_ALIKE,
    )
    op.create_table(
        "alerts",
        sa.Column("id", _SERIAL, primary_key=True, autoincrement=True),
        sa.Column("volume_id", _ID, nullable=False),
        sa.Column("severity", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("raised_at", _MOMENT, nullable=False),
        sa.Column("cleared_at", _MOMENT),
        # A digest of what it says while it stands, then NULL: so that one stands only once.
        sa.Column("standing", sa.String(64), unique=True),
        **_HOW,
    )
    op.create_index("volumes_attached_on", "volumes", ["attached_on"])
    op.create_index("volumes_parent", "volumes", ["parent"])
    op.create_index("events_at", "events", ["at"])
    op.create_index("events_driver", "events", ["driver", "id"])
    op.create_index("events_volume_id", "events", ["volume_id", "id"])
    op.create_index("samples_at", "samples", ["at"])
    op.create_index("alerts_volume_id", "alerts", ["volume_id", "id"])
    op.create_index("alerts_cleared_at", "alerts", ["cleared_at"])


def downgrade() -> None:
    """Remove all tables."""
    for table in ("alerts", "samples", "events", "nodes", "volumes"):
        op.drop_table(table)
