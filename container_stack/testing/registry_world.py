# SPDX-License-Identifier: Apache-2.0
"""What the registry's contract suite stands on: volumes, and hosts that open one registry."""

import dataclasses
import datetime
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from container_stack.volumes import model, registry

Open = Callable[[], registry.Registry]

MOMENT = datetime.datetime(2024, 2, 29, 23, 59, 58, 123457, datetime.UTC)
#: What a careless registry stumbles over.
ODD = (
    "100%",
    "a_b",
    "\\",
    '"',
    "'; DROP TABLE volumes; --",
    '","a":"b',
    "ß",
    "日本",
    "\U0001f4be",
    "",
)


def volume(name: str = "data", driver: str = "loop", **fields: Any) -> model.Volume:
    """Return a volume."""
    made = model.Volume(
        id=str(uuid.uuid4()), driver=driver, name=name, spec=model.Spec(), created_at=MOMENT
    )
    return dataclasses.replace(made, **fields)


def full() -> model.Volume:
    """Return a volume that has everything."""
    return volume(
        "Full.1-a_b",
        spec=model.Spec(
            size=model.LARGEST,
            filesystem="xfs",
            ephemeral=True,
            block_size=4096,
            ha_level=3,
            cos=7,
            dedupe=True,
            snapshot_interval=15,
            snapshot_keep=9,
            labels={"tier": "gold", **{f"odd{index}": text for index, text in enumerate(ODD)}},
        ),
        labels={text: f"value of {text}" for text in ODD if text},
        source=model.Source(parent=str(uuid.uuid4()), seed="http://example.org/ä?b=c"),
        read_only=True,
        state=model.State.ATTACHED | model.State.ERROR,
        status=model.Status.DEGRADED,
        node_id="node-1",
        attached_on="node-2",
        fence=2**40,
        device_path="/dev/loop7",
        mount_paths=("/a/ü", "/b"),
        format="xfs",
        usage=2**50 + 1,
        last_scan=MOMENT + datetime.timedelta(microseconds=1),
        error='it\'s "full"\nreally',
    )


def later(seconds: int) -> datetime.datetime:
    """Return a moment."""
    return MOMENT + datetime.timedelta(seconds=seconds)


def soon(happens: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Tell whether something comes to be so."""
    end = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


class RegistryFixtures:
    """Where the tests get their registries."""

    @pytest.fixture
    def here(self, open_registry: Open) -> Iterator[registry.Registry]:
        """An empty here."""
        opened = open_registry()
        yield opened
        opened.close()

    @pytest.fixture
    def there(self, open_registry: Open) -> Iterator[registry.Registry]:
        """The same one, as another host has it."""
        opened = open_registry()
        yield opened
        opened.close()
