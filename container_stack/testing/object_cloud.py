# SPDX-License-Identifier: Apache-2.0
"""What stands behind :mod:`.objects`: accounts, containers with ACLs, and errors on demand."""

import dataclasses
import hashlib
import threading
import time
from collections.abc import Mapping

from container_stack import exceptions
from container_stack.storlets import objects

READ, WRITE = "x-container-read", "x-container-write"
QUOTA = "x-container-meta-quota-bytes"


@dataclasses.dataclass(slots=True)
class Fault:
    """What goes wrong from now on.

    :param operation: the method that it happens to, as "write"; empty: to any.
    :param prefix: how container/name begins.
    :param skip: so many operations pass first.
    :param times: so many fail; then it is over.
    :param after: bytes that a read yields before it fails.
    :param done: the operation is carried out, and only its answer is lost.
    """

    error: BaseException
    operation: str = ""
    prefix: str = ""
    skip: int = 0
    times: int = 1
    after: int | None = None
    done: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """What a user asked for; the operation is a method of the store."""

    operation: str
    user: str
    account: str
    container: str
    name: str


@dataclasses.dataclass(slots=True)
class Stored:
    """An object; one with segments has no data of its own."""

    etag: str
    modified: float
    metadata: dict[str, str]
    content_type: str
    data: bytes = b""
    segments: tuple[objects.Segment, ...] | None = None

    @property
    def size(self) -> int:
        return len(self.data) + sum(each.size for each in self.segments or ())


@dataclasses.dataclass(slots=True)
class Container:
    """A container; headers have lower case names."""

    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    objects: dict[str, Stored] = dataclasses.field(default_factory=dict)

    @property
    def used(self) -> int:
        """Bytes of what is stored here."""
        return sum(each.size for each in self.objects.values())

    def admits(self, user: str, way: str) -> bool:
        """Whether an ACL names a user, or all users of the part before the colon."""
        listed = self.headers.get(way, "").split(",")
        return user in listed or user.partition(":")[0] in listed


@dataclasses.dataclass(slots=True)
class Account:
    """An account; headers have lower case names."""

    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    containers: dict[str, Container] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(slots=True)
class Cloud:
    """All accounts, and what may go wrong with them.

    :param min_segment: bytes below which no segment may be.
    :param requests: what was asked for so far.
    """

    min_segment: int = 1
    faults: list[Fault] = dataclasses.field(default_factory=list)
    requests: list[Request] = dataclasses.field(default_factory=list)
    accounts: dict[str, Account] = dataclasses.field(default_factory=dict)
    lock: threading.RLock = dataclasses.field(default_factory=threading.RLock)
    latest: float = 0.0

    def now(self) -> float:
        """Return a time later than any that was returned before."""
        self.latest = max(time.time(), self.latest + 1e-5)
        return self.latest

    def account(self, name: str) -> Account:
        """Return an account; it comes into being when somebody asks for it."""
        return self.accounts.setdefault(name, Account())

    def note(self, request: Request) -> Fault | None:
        """Remember a request, and return what it fails with."""
        self.requests.append(request)
        path = f"{request.container}/{request.name}"
        for fault in self.faults:
            if fault.operation in ("", request.operation) and path.startswith(fault.prefix):
                if fault.skip:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                if not fault.times:
                    self.faults.remove(fault)
                return fault
        return None


def set_headers(kept: dict[str, str], headers: Mapping[str, str]) -> None:
    """Change headers as a POST does: an empty value removes one, what isn't named stays."""
    for key, value in headers.items():
        lower = key.lower()
        if lower in (READ, WRITE):
            value = ",".join(part.strip() for part in value.split(",") if part.strip())
        if value:
            kept[lower] = value
        else:
            kept.pop(lower, None)


def md5(data: bytes) -> str:
    """Return the etag of these bytes."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def check_quota(container: Container, name: str, size: int) -> None:
    """Refuse what a container has no room for.

    :raises NoSpace: its quota says so.
    """
    quota = container.headers.get(QUOTA)
    if quota is not None and container.used + size > int(quota):
        raise exceptions.NoSpace(f"The quota of container {name} is {quota} bytes.")
