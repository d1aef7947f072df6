# SPDX-License-Identifier: Apache-2.0
"""What a service says to ``container-stack-brick``, which attaches targets for it as root.

Both sides check a request by the same rules. The root side has no other input: no options, no
configuration of the caller's.
"""

import dataclasses
import ipaddress
import json
import re

from container_stack import exceptions

#: What can be asked for: what this host has; an open device; the size after growth; its end; its
#: end where a connect was killed.
ACTIONS = ("check", "connect", "resize", "disconnect", "abandon")
#: Seconds for a host's own part unless told otherwise.
HOST = 20.0
#: Bytes that one message has at most.
LIMIT = 65536

_KEY = re.compile(r"[0-9a-f]{32}")
_NAME = re.compile(r"(?:iqn|eui|naa)\.[A-Za-z0-9][A-Za-z0-9.:_-]{0,218}")
_PORTAL = re.compile(r"(\[[0-9A-Fa-f:]+\]|[0-9.]+):([1-9][0-9]{0,4})")
# They stand in a record of open-iscsi, one line each.
_WORD = re.compile(r"[!-~]{0,255}")


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """One request.

    :param key: the caller's name for the attachment: 32 hexadecimal digits.
    :param iqn: the target's name.
    :param portals: ``address:port`` each, IPv6 addresses in brackets.
    :param lun: the volume's number, or None for the only one.
    :param user: CHAP, with ``secret``; ``mutual_*`` for the other direction.
    :param timeout: seconds that the target may take.
    :param host: seconds that this host's own part may take: processes, udev, multipathd.
    """

    action: str
    key: str = "0" * 32
    iqn: str = ""
    portals: tuple[str, ...] = ()
    lun: int | None = None
    user: str = ""
    secret: str = dataclasses.field(default="", repr=False)
    mutual_user: str = ""
    mutual_secret: str = dataclasses.field(default="", repr=False)
    multipath: bool = False
    read_only: bool = False
    timeout: float = 60.0
    host: float = HOST

    def __post_init__(self) -> None:
        words = (self.user, self.secret, self.mutual_user, self.mutual_secret)
        if self.action not in ACTIONS or not _KEY.fullmatch(self.key):
            raise exceptions.InvalidRequest(f"{self.action!r} {self.key!r} isn't a request.")
        if self.action != "check":
            if not _NAME.fullmatch(self.iqn):
                raise exceptions.InvalidRequest(f"{self.iqn!r} isn't the name of an iSCSI target.")
            if not self.portals or not all(_is_portal(each) for each in self.portals):
                raise exceptions.InvalidRequest(f"{self.portals!r} aren't portals: address:port.")
        if self.lun is not None and not 0 <= self.lun < 16384:
            raise exceptions.InvalidRequest(f"{self.lun} isn't a logical unit's number.")
        if not all(_WORD.fullmatch(each) for each in words):
            raise exceptions.InvalidRequest(
                "A CHAP name or secret has more than 255 characters, or others than ASCII's."
            )
        if not (0 < self.timeout <= 3600 and 0 < self.host <= 3600):
            raise exceptions.InvalidRequest(f"A timeout of {self.timeout} s isn't within an hour.")

    @property
    def several(self) -> bool:
        """Whether several paths lead to the volume."""
        return self.multipath and len(self.portals) > 1

    @property
    def deadline(self) -> float:
        """Seconds after which it is given up."""
        return self.timeout + self.host

    @property
    def login(self) -> int:
        """Seconds in which one portal must have let us in."""
        return max(1, min(15, int(self.timeout) // 4))

    def encode(self) -> bytes:
        """Return it as a message."""
        return json.dumps(dataclasses.asdict(self)).encode()


def decode(message: bytes) -> Request:
    """Return the request of a message.

    :raises InvalidRequest: it isn't one.
    """
    try:
        values = json.loads(message)
        kinds = {each.name: each.type for each in dataclasses.fields(Request)}
        if set(values) != set(kinds):
            raise ValueError("other fields")
        values["portals"] = tuple(values["portals"])
        if not all(_is_a(values[name], kind) for name, kind in kinds.items()):
            raise ValueError("other types")
        return Request(**values)
    except (ValueError, TypeError, KeyError) as exc:
        raise exceptions.InvalidRequest(f"That isn't a request: {exc}.") from exc


def halves(portal: str) -> list[str]:
    """Return a portal's address, without brackets, and its port."""
    address, _, port = portal.rpartition(":")
    return [address.strip("[]"), port]


def _is_a(value: object, kind: object) -> bool:
    if kind == tuple[str, ...]:
        return isinstance(value, tuple) and all(isinstance(each, str) for each in value)
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, kind)  # type: ignore[arg-type]


def _is_portal(text: str) -> bool:
    match = _PORTAL.fullmatch(text)
    try:
        return bool(match and ipaddress.ip_address(match[1].strip("[]")) and int(match[2]) < 65536)
    except ValueError:
        return False
