# SPDX-License-Identifier: Apache-2.0
"""What a service says to ``container-stack-disk``, and hears from it.

What may hold secrets goes by standard input, as JSON: ``{"local": PATH}``, or ``{"iscsi": ...}``
with a request of :mod:`container_stack.rootwrap.brick_wire`. Both sides check it by the same rules.
"""

import dataclasses
import json
import re
from typing import Any

from container_stack import exceptions
from container_stack.rootwrap import brick_wire, commands

#: Where each connected volume has its device, by its id: root's own directory, so that nobody
#: else says which device that is.
HOME = "/run/container-stack-disks"
#: Bytes that standard input has at most.
LIMIT = 65536

# A logical volume of Cinder's, as its default `volume_name_template` has it, or one of our own.
_CINDER = rf"/dev/{commands.KINDS['group']}/volume-{commands.KINDS['id']}"
_LOCAL = re.compile(rf"(?!/dev/(?:shm|mqueue)/)(?:{_CINDER}|{commands.KINDS['device']})")


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """How to reach a volume; one of the two.

    :param local: path of a device that this host has: ``/dev/GROUP/volume-UUID``, or a volume of
        container_stack's own storage.
    """

    local: str = ""
    iscsi: brick_wire.Request | None = None

    def __post_init__(self) -> None:
        if bool(self.local) == bool(self.iscsi):
            raise exceptions.InvalidRequest("A volume is either local or an iSCSI target's.")
        if self.local and not _LOCAL.fullmatch(self.local):
            raise exceptions.InvalidRequest(
                f"{self.local!r} isn't a volume's device: that is /dev/GROUP/volume-UUID."
            )

    def encode(self) -> str:
        """Return it as JSON, secrets included."""
        if self.iscsi:
            return json.dumps({"iscsi": json.loads(self.iscsi.encode())})
        return json.dumps({"local": self.local})

    def without_secrets(self) -> "Source":
        """Return what suffices to detach it."""
        if not self.iscsi:
            return self
        bare = dataclasses.replace(
            self.iscsi,
            user="",
            secret="",
            mutual_user="",
            mutual_secret="",
        )
        return Source(iscsi=bare)


def decode(text: str | bytes) -> Source:
    """Return what :meth:`Source.encode` made.

    :raises InvalidRequest: it isn't that.
    """
    try:
        values: dict[str, Any] = json.loads(text)
        ((kind, value),) = values.items()
        if kind == "local" and isinstance(value, str):
            return Source(local=value)
        if kind == "iscsi":
            return Source(iscsi=brick_wire.decode(json.dumps(value).encode()))
    except (ValueError, AttributeError, TypeError) as exc:
        raise exceptions.InvalidRequest("That isn't a volume's source.") from exc
    raise exceptions.InvalidRequest("That isn't a volume's source: it is local or iscsi.")


def device(disk_id: str) -> str:
    """Return the path of a connected volume's device."""
    return f"{HOME}/{disk_id}"
