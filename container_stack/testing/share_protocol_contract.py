# SPDX-License-Identifier: Apache-2.0
"""The suite of share servers' protocols, before real clients.

Make a subclass of :class:`ShareProtocolContract` with a fixture ``world``: a running share server
and two clients that rules can tell apart.
"""

import abc
import contextlib
import logging
from collections.abc import Iterator, Mapping

import pytest

from container_stack import exceptions
from container_stack.shares import protocol

LOG = logging.getLogger(__name__)

OLD, NEW = b"of the first day", b"of the second day!"


class File(abc.ABC):
    """A file that a client holds open.

    :raises OSError: the server refused, or cut the client off.
    """

    @abc.abstractmethod
    def write(self, data: bytes) -> None:
        """Write from the beginning, as far as to the server's disk."""

    @abc.abstractmethod
    def read(self) -> bytes:
        """Return what is in it, as the server has it now."""


class Client(abc.ABC):
    """A client with a share mounted."""

    @abc.abstractmethod
    def open(self, name: str, *, write: bool) -> File:
        """Open a file; make it, if it is to be written and isn't there.

        :raises OSError: the server refused.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Go away, whether the server still answers or not."""


class World(abc.ABC):
    """A running share server, its host, and two clients: number 0 and number 1."""

    @property
    @abc.abstractmethod
    def speaking(self) -> protocol.Protocol:
        """The protocol in the server that runs now."""

    @abc.abstractmethod
    def make_share(self) -> str:
        """Return the name of a new share: mounted, without data, without rules."""

    @abc.abstractmethod
    def unmount(self, share: str) -> None:
        """Unmount a share's volume at once; no second try, no force.

        :raises subprocess.CalledProcessError: somebody uses it.
        """

    @abc.abstractmethod
    def mount(self, share: str) -> None:
        """Mount it again."""

    @abc.abstractmethod
    def rule(self, number: int, level: str = "rw") -> protocol.Rule:
        """Return the rule that lets one client in."""

    @abc.abstractmethod
    def connect(self, number: int, share: str, answer: Mapping[str, str]) -> Client:
        """Return a client with the share mounted.

        :param answer: what :meth:`protocol.Protocol.set_share` returned.
        :raises OSError: the server refused.
        """

    @abc.abstractmethod
    def stop(self, *, kill: bool) -> None:
        """Stop the server's container, in order or by SIGKILL to all in it."""

    @abc.abstractmethod
    def start(self) -> None:
        """Start it again, and wait until the protocol is ready."""


class ShareProtocolContract:
    """What every protocol must do."""

    @pytest.fixture
    def share(self, world: World) -> Iterator[str]:
        name = world.make_share()
        yield name
        world.speaking.remove_share(name)
        world.unmount(name)

    def test_rules_are_of_its_own_class_and_checked(self, world: World) -> None:
        kind = world.speaking.rule
        good = world.rule(0, "ro")
        assert (kind(good.kind, good.to, good.level), good.level) == (good, "ro")
        with pytest.raises(exceptions.NotSupported):
            kind("a kind that nobody has", good.to)
        with pytest.raises(exceptions.InvalidRequest):
            kind(good.kind, good.to, "rwx")
        with pytest.raises(exceptions.InvalidRequest):
            kind(good.kind, f"{good.to}\nand more")

    def test_export_location_holds_address_and_share(self, world: World) -> None:
        location = world.speaking.export_location("192.0.2.5", "share-1")
        assert "192.0.2.5" in location
        assert location.endswith("share-1")
        assert world.speaking.export_location("2001:db8::5", "share-1").endswith("share-1")

    def test_share_without_rules_admits_nobody(self, world: World, share: str) -> None:
        key = world.speaking.set_share(share, [world.rule(0)])
        assert _writes(world, 0, share, key)
        assert world.speaking.set_share(share, []) == {}
        assert not _reads(world, 0, share, key)
        assert not _reads(world, 1, share, key)

    def test_rule_admits_its_client_and_no_other(self, world: World, share: str) -> None:
        keys = world.speaking.set_share(share, [world.rule(0), world.rule(1)])
        world.speaking.set_share(share, [world.rule(0)])
        assert _writes(world, 0, share, keys)
        assert not _reads(world, 1, share, keys)

    def test_who_may_only_read_cannot_write(self, world: World, share: str) -> None:
        keys = world.speaking.set_share(share, [world.rule(0), world.rule(1, "ro")])
        assert _writes(world, 0, share, keys)
        assert _reads(world, 1, share, keys)
        assert not _writes(world, 1, share, keys)

    def test_who_loses_access_is_cut_off_and_the_other_is_not(
        self, world: World, share: str
    ) -> None:
        keys = world.speaking.set_share(share, [world.rule(0), world.rule(1)])
        with _client(world, 0, share, keys) as one, _client(world, 1, share, keys) as other:
            ours, theirs = one.open("ours", write=True), other.open("theirs", write=True)
            ours.write(OLD)
            theirs.write(OLD)
            world.speaking.set_share(share, [world.rule(1)])
            with _cut_off():
                ours.write(NEW)
            theirs.write(NEW)
            assert theirs.read() == NEW
        with _client(world, 1, share, keys) as other:
            assert other.open("ours", write=False).read() == OLD

    def test_who_may_only_read_from_now_on_cannot_write_to_what_is_open(
        self, world: World, share: str
    ) -> None:
        keys = world.speaking.set_share(share, [world.rule(0), world.rule(1)])
        with _client(world, 0, share, keys) as one:
            ours = one.open("ours", write=True)
            ours.write(OLD)
            world.speaking.set_share(share, [world.rule(0, "ro"), world.rule(1)])
            with _cut_off():
                ours.write(NEW)
        with _client(world, 0, share, keys) as one:
            assert one.open("ours", write=False).read() == OLD

    def test_the_same_rules_again_disturb_nobody(self, world: World, share: str) -> None:
        keys = world.speaking.set_share(share, [world.rule(0)])
        with _client(world, 0, share, keys) as one:
            ours = one.open("ours", write=True)
            ours.write(OLD)
            assert world.speaking.set_share(share, [world.rule(0)]) == keys
            ours.write(NEW)
            assert ours.read() == NEW

    def test_rules_are_told_until_the_share_is_removed(self, world: World, share: str) -> None:
        rules = {world.rule(0), world.rule(1, "ro")}
        world.speaking.set_share(share, rules)
        assert world.speaking.shares()[share] == rules
        world.speaking.remove_share(share)
        assert share not in world.speaking.shares()
        world.speaking.remove_share(share)

    def test_contradicting_rules_change_nothing(self, world: World, share: str) -> None:
        world.speaking.set_share(share, [world.rule(0)])
        with pytest.raises(exceptions.InvalidRequest):
            world.speaking.set_share(share, [world.rule(0), world.rule(0, "ro")])
        assert world.speaking.shares()[share] == {world.rule(0)}

    @pytest.mark.parametrize("name", ["", "..", "a/b", "a\nb", "-a", "x" * 64, "a b", 'a"b', "Ä"])
    def test_no_share_has_such_a_name(self, world: World, name: str) -> None:
        with pytest.raises(exceptions.InvalidRequest):
            world.speaking.set_share(name, [world.rule(0)])
        with pytest.raises(exceptions.InvalidRequest):
            world.speaking.remove_share(name)

    def test_share_whose_volume_is_away_is_not_set(self, world: World, share: str) -> None:
        world.unmount(share)
        with pytest.raises(exceptions.CommandFailed):
            world.speaking.set_share(share, [world.rule(0)])
        world.mount(share)
        world.speaking.set_share(share, [world.rule(0)])

    def test_removed_share_lets_go_of_its_volume_under_open_files(self, world: World) -> None:
        share = world.make_share()
        keys = world.speaking.set_share(share, [world.rule(0)])
        with _client(world, 0, share, keys) as one:
            ours = one.open("ours", write=True)
            ours.write(OLD)
            world.speaking.remove_share(share)
            world.unmount(share)
            with _cut_off():
                ours.write(NEW)

    def test_suspended_share_lets_go_of_its_volume_and_comes_back(
        self, world: World, share: str
    ) -> None:
        keys = world.speaking.set_share(share, [world.rule(0), world.rule(1, "ro")])
        with _client(world, 0, share, keys) as one:
            one.open("ours", write=True).write(OLD)
            world.speaking.suspend(share)
            world.unmount(share)
        kept = world.speaking.shares()[share]
        assert kept == {world.rule(0), world.rule(1, "ro")}
        world.mount(share)
        assert not _reads(world, 0, share, keys)
        assert world.speaking.set_share(share, kept) == keys
        with _client(world, 1, share, keys) as other:
            assert other.open("ours", write=False).read() == OLD

    def test_shares_and_rules_outlive_the_container(self, world: World, share: str) -> None:
        """Also when it is killed, and when the volume is away at its start.

        It is the last one: a protocol may make clients wait after a start.
        """
        rules = [world.rule(0), world.rule(1, "ro")]
        keys = world.speaking.set_share(share, rules)
        assert _writes(world, 0, share, keys)
        world.stop(kill=False)
        world.start()
        assert world.speaking.shares()[share] == set(rules)
        world.stop(kill=True)
        world.unmount(share)
        world.start()
        assert not _reads(world, 0, share, keys)
        world.mount(share)
        for _ in range(2):
            world.speaking.restore_share(share)
        assert _reads(world, 1, share, keys)
        assert not _writes(world, 1, share, keys)
        assert _writes(world, 0, share, keys)


@contextlib.contextmanager
def _client(world: World, number: int, share: str, keys: Mapping[str, str]) -> Iterator[Client]:
    client = world.connect(number, share, keys)
    try:
        yield client
    finally:
        client.close()


@contextlib.contextmanager
def _cut_off() -> Iterator[None]:
    """Expect that the server refuses; how it says that is each protocol's own."""
    try:
        yield
    except OSError:
        return
    pytest.fail("The server let in whom it should not.")


def _writes(world: World, number: int, share: str, keys: Mapping[str, str]) -> bool:
    """Tell whether a client can write to the share's one file."""
    return _does(world, number, share, keys, write=True)


def _reads(world: World, number: int, share: str, keys: Mapping[str, str]) -> bool:
    """Tell whether a client can read the share's one file."""
    return _does(world, number, share, keys, write=False)


def _does(world: World, number: int, share: str, keys: Mapping[str, str], *, write: bool) -> bool:
    try:
        with _client(world, number, share, keys) as client:
            file = client.open("file", write=write)
            if write:
                file.write(OLD)
            assert file.read() == OLD
    except OSError as exc:
        LOG.info("Client %(number)d was refused: %(why)s", {"number": number, "why": exc})
        return False
    return True
