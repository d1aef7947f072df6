# SPDX-License-Identifier: Apache-2.0
"""What the suites of object stores stand on: two users, a container, and what they try."""

import contextlib
import dataclasses
import uuid
from collections.abc import Callable, Iterator

import pytest

from container_stack import exceptions
from container_stack.storlets import objects

#: Bytes that no piece is a multiple of.
DATA = bytes(n % 251 for n in range(200_003))


@dataclasses.dataclass(frozen=True, slots=True)
class Users:
    """Two users of a store.

    :param owner: an administrator of an account, and that account.
    :param guest: the same account as somebody else sees it.
    :param guest_acl: what an ACL calls them.
    :param own: the guest's own account.
    """

    owner: objects.ObjectStore
    guest: objects.ObjectStore
    guest_acl: str
    own: objects.ObjectStore


class ObjectFixtures:
    """The owner's view, and a container in it."""

    @pytest.fixture
    def store(self, users: Users) -> objects.ObjectStore:
        return users.owner

    @pytest.fixture
    def container(self, store: objects.ObjectStore) -> Iterator[str]:
        name = f"cstest-{uuid.uuid4().hex[:12]}"
        store.set_container(name, {})
        yield name
        for each in store.list(name):
            with contextlib.suppress(exceptions.ContainerStackError):
                store.remove(name, each.name)


def make_segments(store: objects.ObjectStore, container: str) -> list[objects.Segment]:
    """Write the data in three segments, the last one shorter."""
    made = []
    for number, start in enumerate(range(0, len(DATA), 80_000)):
        part = DATA[start : start + 80_000]
        name = f"seg/{number} ä"
        made.append(objects.Segment(container, name, store.write(container, name, part), len(part)))
    return made


def reading(store: objects.ObjectStore, container: str) -> tuple[Callable[[], object], ...]:
    """Return what needs the read ACL."""
    return (
        lambda: store.head(container, "a"),
        lambda: list(store.read(container, "a")),
        lambda: list(store.list(container)),
        lambda: store.container(container),
    )


def writing(store: objects.ObjectStore, container: str) -> tuple[Callable[[], object], ...]:
    """Return what needs the write ACL."""
    return (
        lambda: store.write(container, "b", b"new"),
        lambda: store.set_metadata(container, "a", {"b": "c"}),
    )


def owning(store: objects.ObjectStore, container: str) -> tuple[Callable[[], object], ...]:
    """Return what only an administrator of the account may do."""
    return (
        store.account_headers,
        lambda: store.set_account({"X-Account-Meta-A": "b"}),
        lambda: store.set_container(container, {"X-Container-Meta-A": "b"}),
        lambda: store.set_container(f"{container}-other", {}),
    )
