# SPDX-License-Identifier: Apache-2.0
"""What must be known of a server to plug it again, to undo what was begun, and to finish it.

Each server has a directory, for its owner alone, with one record here and what others keep there
of the same server, such as its configuration drive. No secrets are in records.
"""

import dataclasses
import enum
import os
import shutil
from collections.abc import Sequence
from typing import Any

from container_stack import exceptions
from container_stack.host import records
from container_stack.servers import model

#: The record's name in the server's directory.
RECORD = "record"


class Step(enum.StrEnum):
    """What was begun with a server, and what a crash in the middle of it calls for."""

    #: Undo it all.
    MAKING = "making"
    #: Plug it, and let it run on if it was held.
    STARTING = "starting"
    READY = "ready"
    #: Of its next container: undo that alone; see :mod:`aside`.
    MOVING = "moving"
    #: Go on until nothing is left.
    REMOVING = "removing"


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """A server's record.

    :param name: what the compute service calls it.
    :param ports: those that it has, or is about to get.
    """

    id: str
    owner: str
    name: str
    step: Step
    ports: tuple[model.Port, ...] = ()


class ServerRecords:
    """Directories and records of one owner's servers. Writers hold the server's lock.

    They needn't outlive a loss of power: the engine still tells then which servers there are, and
    the compute service brings their ports.

    :param directory: below which each server has its own.
    """

    def __init__(self, directory: str, owner: str) -> None:
        self._directory = directory
        self._owner = owner

    def directory(self, server_id: str) -> str:
        """Return the server's directory, which exists as long as there is a record."""
        return os.path.join(self._directory, model.check_id(server_id))

    def read(self, server_id: str) -> Record | None:
        """Return a server's record, or None when there is none that can be read."""
        try:
            values = self._file(server_id).read(RECORD)
            record = _record(values) if values else None
        except (exceptions.InvalidRequest, KeyError, TypeError, ValueError):
            return None
        return record if record and record.owner == self._owner else None

    def write(self, record: Record) -> None:
        """Write a server's record in one step."""
        self._file(record.id).write(RECORD, dataclasses.asdict(record))

    def remove(self, server_id: str) -> None:
        """Remove a server's directory with all that is in it; idempotent."""
        # The record goes first: what is left without one is a stray.
        self._file(server_id).remove(RECORD)
        shutil.rmtree(self.directory(server_id), ignore_errors=True)

    def ids(self) -> Sequence[str]:
        """Return the ids of the servers that have a record of this owner's, sorted."""
        try:
            names = sorted(os.listdir(self._directory))
        except FileNotFoundError:
            return []
        return [name for name in names if _is_id(name) and self.read(name)]

    def strays(self) -> Sequence[str]:
        """Return the ids that have a directory and no record of anybody's."""
        try:
            names = sorted(os.listdir(self._directory))
        except FileNotFoundError:
            return []
        return [
            name
            for name in names
            if _is_id(name) and not os.path.exists(self._file(name).path(RECORD))
        ]

    def _file(self, server_id: str) -> records.Records:
        return records.Records(self.directory(server_id), durable=False)


def _is_id(name: str) -> bool:
    try:
        return bool(model.check_id(name))
    except exceptions.InvalidRequest:
        return False


def _record(values: dict[str, Any]) -> Record:
    return Record(
        values["id"],
        values["owner"],
        values["name"],
        Step(values["step"]),
        tuple(_port(each) for each in values["ports"]),
    )


def _port(values: dict[str, Any]) -> model.Port:
    lists = ("addresses", "gateways", "dns")
    return model.Port(
        **values
        | {name: tuple(values[name]) for name in lists}
        | {
            "binding": model.Binding(values["binding"]),
            "routes": tuple(model.Route(**each) for each in values["routes"]),
        }
    )
