# SPDX-License-Identifier: Apache-2.0
"""A back end whose service, engine and Samba may be killed at any step of what it is asked."""

import contextlib
import dataclasses
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from acceptance import backend, cifs, host, manila, rest, samba, snapshot_rest
from acceptance.faults import engine, steps

NAME = "cstest_faults"
_SUPPORT = ("snapshot", "create_share_from_snapshot", "revert_to_snapshot", "mount_snapshot")


@dataclasses.dataclass(frozen=True, slots=True)
class World:
    """That back end.

    :param network: a share network, on which the first share has made a server.
    """

    cifs: cifs.Cifs
    engine: engine.Engine
    hold: steps.Hold
    snapshots: snapshot_rest.Snapshots
    network: str

    @property
    def client(self) -> rest.Client:
        """A client of Manila's API."""
        return self.cifs.client

    def things(self) -> frozenset[str]:
        """Return the names of all that is there: at the engine, at the kernel, and as files."""
        state = self.cifs.state
        files = (path for path in state.glob("[vs]*/*") if path.is_file())
        return frozenset(
            [
                *self.engine.things(),
                *(f"mount {each}" for each in host.mounts(state)),
                *(f"loop device of {each}" for each in host.loop_devices(state).values()),
                *(f"file {each}" for each in files),
            ]
        )

    # Asking, without waiting -----------------------------------------------------------------

    def act(self, kind: str, made: str, **action: object) -> Any:
        """Ask for something to be done to a share or a snapshot."""
        return self.client.call("POST", f"{kind}/{made}/action", action)

    def snapshot(self, share: str) -> str:
        """Ask for a snapshot and return its id."""
        body = {"snapshot": {"share_id": share}}
        return str(self.client.call("POST", "snapshots", body)["snapshot"]["id"])

    # Clearing away, as an administrator does ---------------------------------------------------

    def remove_share(self, made: str) -> None:
        """Delete a share in whatever state it is."""
        if self.client.share(made) is not None:
            self.client.reset("shares", made)
            self.client.delete_share(made)

    def remove_snapshot(self, made: str) -> None:
        """Delete a snapshot in whatever state it is."""
        self.act("snapshots", made, reset_status={"status": "error"})
        self.snapshots.delete(made)

    def remove_snapshots(self) -> None:
        """Delete all snapshots."""
        for each in self.client.call("GET", "snapshots")["snapshots"]:
            self.remove_snapshot(each["id"])


@contextlib.contextmanager
def running(plane: manila.ControlPlane, directory: Path) -> Iterator[World]:
    """Run that back end; in the end nothing is left of it."""
    subnet = host.unused_subnet()
    with contextlib.ExitStack() as undo:
        reference = undo.enter_context(samba.current_image())
        own = undo.enter_context(engine.running(directory, subnet))
        own.load(reference)
        state = plane.directory / NAME / cifs.STATE
        undo.callback(_sweep, state)

        def options(place: backend.Place) -> Mapping[str, object]:
            return {
                **cifs.options(place, subnet, reference),
                "share_driver": "acceptance.faults.steps.SteppedDriver",
                "container_stack_docker_url": own.url,
                # The one that can do all that is asked here.
                "container_stack_filesystem": "btrfs",
            }

        made = undo.enter_context(backend.running(plane, NAME, options, normal_user=False))
        client = made.client()
        specs = {f"{what}_support": "True" for what in _SUPPORT}
        share_type = client.create_type(NAME, share_backend_name=NAME, **specs)
        cifs_world = cifs.Cifs(made, client, share_type, subnet)
        with cifs_world.network() as network, contextlib.ExitStack() as first:
            hold = steps.Hold(state.parent)
            end = World(cifs_world, own, hold, snapshot_rest.Snapshots(client), network)
            first.callback(end.remove_snapshots)
            yield end
        made.service.stop()
        # The tree of mount points is a mount of its own, which stays for the next start.
        assert sorted(end.things() - {f"mount {state}/mounts"}) == []


def _sweep(state: Path) -> None:
    """Take away what failed tests left, which is no other's."""
    for point in host.mounts(state):
        subprocess.run(["umount", "--lazy", point], check=False)
    for device in host.loop_devices(state):
        subprocess.run(["losetup", "--detach", device], check=False)
