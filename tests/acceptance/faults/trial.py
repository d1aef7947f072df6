# SPDX-License-Identifier: Apache-2.0
"""One operation after the other, beside a share that a client writes to all the time."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence

from acceptance import resources, smb
from acceptance.faults import recorder, world


@dataclasses.dataclass
class Asked:
    """What an operation is about, beside the share that clients write to."""

    share: str = ""
    snapshot: str = ""
    rule: str = ""
    network: str = ""


class Trial:
    """That share, what is done to it and beside it, and how one looks at it afterwards."""

    def __init__(self, made: world.World) -> None:
        self.world = made
        self.share = made.cifs.made(made.cifs.ask(made.network))
        self._key = made.cifs.key(self.share, "alice")
        self._written: list[recorder.Recorder] = []
        self._rest = made.things()

    # What is asked ----------------------------------------------------------------------------

    def prepare(self, operation: str) -> Asked:
        """Make what the operation needs."""
        client, asked = self.world.client, Asked()
        if operation in ("extend", "shrink"):
            self._resize(1 if operation == "extend" else 2)
        elif operation in ("clone", "revert"):
            taken = self.world.snapshots.create(self.share.id)
            assert taken.status == "available"
            asked.snapshot = taken.id
        elif operation == "delete":
            asked.share = self.world.cifs.ask(self.world.network)
            client.available(asked.share)
        elif operation == "server":
            asked.network = client.create_network("quay")
        return asked

    def ask(self, operation: str, asked: Asked) -> None:
        """Ask for it, and don't wait."""
        made, share = self.world, self.share.id
        if operation in ("server", "create"):
            asked.share = made.cifs.ask(asked.network or made.network)
        elif operation == "rule":
            rule = {"access_type": "user", "access_to": "reader", "access_level": "ro"}
            answer = made.act("shares", share, allow_access=rule)
            asked.rule = answer["access"]["id"]
        elif operation in ("extend", "shrink"):
            size = {"extend": 2, "shrink": 1}[operation]
            made.act("shares", share, **{operation: {"new_size": size}})
        elif operation == "snapshot":
            asked.snapshot = made.snapshot(share)
        elif operation == "clone":
            kind = made.cifs.share_type
            asked.share = made.snapshots.share(asked.snapshot, kind, made.network, 2)
        elif operation == "revert":
            made.act("shares", share, revert={"snapshot_id": asked.snapshot})
        elif operation == "delete":
            made.client.call("DELETE", f"shares/{asked.share}")

    def clear(self, asked: Asked) -> None:
        """Take away what was asked for, in whatever state it is, as an administrator does."""
        made = self.world
        if asked.rule and asked.rule in [each.id for each in made.client.rules(self.share.id)]:
            made.client.deny(self.share.id, asked.rule)
        if asked.share:
            made.remove_share(asked.share)
        if asked.snapshot:
            made.remove_snapshot(asked.snapshot)
        if asked.network:
            for server in made.client.servers(asked.network):
                made.client.reset("share-servers", server)
                made.client.delete_server(server)
            made.client.delete_network(asked.network)

    def left(self) -> list[str]:
        """Return what is on the host that wasn't there before, or is there no longer; once.

        What nobody could undo while dockerd was away goes a moment later.
        """
        end = time.monotonic() + 20
        while (found := self.world.things()) != self._rest and time.monotonic() < end:
            time.sleep(0.5)
        before, self._rest = self._rest, found
        return sorted(before ^ found)

    # What came of it -------------------------------------------------------------------------

    def recording(self, name: str) -> contextlib.AbstractContextManager[recorder.Recorder]:
        """Write to the share while the body runs."""
        return recorder.recording(self.share.location, "alice", self._key, name)

    def check_share(self, written: recorder.Recorder, *, reverted: bool) -> None:
        """The share is where it was, with all that it has acknowledged, and may be used."""
        made = self.world
        assert made.client.exports(self.share.id) == [self.share.location]
        key = made.cifs.key_of(self.share, "alice")
        for each in self._written:
            assert each.kept(key) == each.acknowledged
        kept = written.kept(key)
        if reverted:
            # Nothing is lost but what was written before it went back.
            assert kept == written.acknowledged[-len(kept) :], _gaps(written, kept)
        else:
            assert kept == written.acknowledged, _gaps(written, kept)
            self._written.append(written)
        found = made.client.share(self.share.id)
        assert found is not None
        if found.status != "available":
            made.act("shares", self.share.id, reset_status={"status": "available"})

    def check_asked(self, operation: str, asked: Asked, *, forgotten: bool) -> None:
        """What Manila says of it is true.

        :param forgotten: Manila was killed, and leaves it in the state in which it was.
        """
        client = self.world.client
        if operation == "rule":
            [rule] = [each for each in client.rules(self.share.id) if each.id == asked.rule]
            if rule.state == "active":
                key = self.world.cifs.key_of(self.share, "reader")
                assert smb.enter_as(self.share.location, "reader", key)
            else:
                assert rule.state == "error" or forgotten
        elif asked.share:
            found = client.share(asked.share)
            if found is not None and found.status == "available":
                other = self.world.cifs.made(asked.share)
                key = self.world.cifs.key(other, "alice")
                there = smb.enter_as(other.location, "alice", key)
                assert bool(there) == (operation == "clone")
            else:
                assert found is None or forgotten or found.status.startswith("error"), found

    def settled(self, operation: str, asked: Asked) -> None:
        """Wait until Manila has ended the operation, one way or the other."""
        client = self.world.client
        if operation == "rule":
            self._until(lambda: not _passing(self._rule(asked.rule).state))
        elif operation == "snapshot":
            self.world.snapshots.settled(asked.snapshot)
        elif asked.share:
            self._until(lambda: _at_rest(client.share(asked.share)))
        else:
            client.settled(self.share.id)

    def _rule(self, rule: str) -> resources.Rule:
        [found] = [each for each in self.world.client.rules(self.share.id) if each.id == rule]
        return found

    def _until(self, probe: Callable[[], bool]) -> None:
        self.world.client.wait("the end of an operation", probe, timeout=90)

    def _resize(self, size: int) -> None:
        found = self.world.client.available(self.share.id)
        if found.size < size:
            self.world.client.extend(self.share.id, size)
        elif found.size > size:
            self.world.snapshots.shrink(self.share.id, size)
        assert self.world.client.available(self.share.id).size == size


def _passing(state: str) -> bool:
    return state.endswith("ing") or state.startswith("queued")


def _at_rest(found: resources.Share | None) -> bool:
    return found is None or not found.status.endswith("ing")


def _gaps(written: recorder.Recorder, kept: Sequence[int]) -> str:
    lost = sorted(set(written.acknowledged) - set(kept))
    return f"{len(lost)} of {len(written.acknowledged)} lost: {lost[:5]} to {lost[-5:]}"
