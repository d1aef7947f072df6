# SPDX-License-Identifier: Apache-2.0
"""The registry's tables, as the newest migration leaves them.

Times are UTC without a zone. Mappings and sequences are JSON with sorted keys, in text columns:
every database has those, and :mod:`.rows` reads them faster than a JSON type would.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

METADATA = sa.MetaData()

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


VOLUMES = sa.Table(
    "volumes",
    METADATA,
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
    sa.Index("volumes_attached_on", "attached_on"),
    sa.Index("volumes_parent", "parent"),
    **_ALIKE,
)

NODES = sa.Table(
    "nodes",
    METADATA,
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

EVENTS = sa.Table(
    "events",
    METADATA,
    sa.Column("id", _SERIAL, primary_key=True, autoincrement=True),
    sa.Column("at", _MOMENT, nullable=False),
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("driver", _NAME, nullable=False),
    sa.Column("volume_id", _ID, nullable=False),
    sa.Column("node_id", _NODE, nullable=False),
    sa.Column("text", sa.Text(), nullable=False),
    sa.Index("events_at", "at"),
    sa.Index("events_driver", "driver", "id"),
    sa.Index("events_volume_id", "volume_id", "id"),
    **_HOW,
)

SAMPLES = sa.Table(
    "samples",
    METADATA,
    sa.Column("volume_id", _ID, primary_key=True),
    sa.Column("at", _MOMENT, primary_key=True),
    sa.Column("used", sa.BigInteger(), nullable=False),
    sa.Index("samples_at", "at"),
    **_ALIKE,
)

ALERTS = sa.Table(
    "alerts",
    METADATA,
    sa.Column("id", _SERIAL, primary_key=True, autoincrement=True),
    sa.Column("volume_id", _ID, nullable=False),
    sa.Column("severity", sa.Integer(), nullable=False),
    sa.Column("text", sa.Text(), nullable=False),
    sa.Column("raised_at", _MOMENT, nullable=False),
    sa.Column("cleared_at", _MOMENT),
    # A digest of what it says while it stands, then NULL: so that one stands only once.
    sa.Column("standing", sa.String(64), unique=True),
    sa.Index("alerts_volume_id", "volume_id", "id"),
    sa.Index("alerts_cleared_at", "cleared_at"),
    **_HOW,
)
