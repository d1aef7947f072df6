# SPDX-License-Identifier: Apache-2.0
"""Volumes on a real NFS server, through the kernel's client, against the public suites."""

import dataclasses
import pathlib
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from container_stack import exceptions, plugins
from container_stack.host import mounts
from container_stack.testing import (
    privilege,
    volume_abilities_contract,
    volume_backend_contract,
    volume_world,
)
from container_stack.volumes import backend, model

from . import nfs_server

pytestmark = nfs_server.needs_nfs

#: Seconds in which every call must end: a server is given 30, and an error comes after several.
PATIENCE = 240.0
MIB = 1024**2


@pytest.fixture(scope="module")
def server() -> Iterator[nfs_server.Server]:
    with nfs_server.server() as made:
        yield made


class _Remote(volume_world.VolumeFixtures):
    @pytest.fixture
    def open_backend(self) -> volume_world.Open:
        factory: volume_world.Open = plugins.load(plugins.VOLUME_BACKENDS, "nfs")
        return factory

    @pytest.fixture
    def options(
        self, tmp_path: pathlib.Path, server: nfs_server.Server
    ) -> Iterator[backend.Options]:
        yield from make_options(tmp_path)
        assert not [*server.directory.iterdir()]


def make_options(tmp_path: pathlib.Path, **settings: str) -> Iterator[backend.Options]:
    runner = privilege.make_executor(tmp_path / "state", drivers=["osd"])
    settings = {"server": nfs_server.ADDRESS, "path": nfs_server.EXPORT, **settings}
    directory = tmp_path / "state" / "backends" / "nfs"
    yield backend.Options("nfs", runner, str(directory), settings)
    runner.close()
    assert mounts.below(str(tmp_path)) == []


class TestRemote(_Remote, volume_backend_contract.VolumeBackendContract):
    def test_other_hosts_have_the_same_volumes(
        self, world: volume_world.World, tmp_path: pathlib.Path
    ) -> None:
        one = world.create()
        world.write(one, "kept")
        for options in make_options(tmp_path / "there", version="4.1", wait="hard"):
            there = volume_world.World(options, world.open, world.open(options))
            there.backend.start()
            assert there.backend.list() == [one]
            assert there.read(one) == "kept"
            there.write(one, "changed")
            there.backend.close()
        assert world.read(one) == "changed"

    def test_server_that_is_gone_costs_bounded_time_and_says_so(
        self, world: volume_world.World, server: nfs_server.Server
    ) -> None:
        made, one, path = world.backend, world.create(), world.place()
        world.write(one, "kept")
        world.mount(one, path)
        other = str(uuid.uuid4())
        calls: list[Callable[[], object]] = [
            made.list,
            lambda: made.usage(one),
            lambda: made.create(other, model.Spec()),
            lambda: made.delete(other),
            lambda: world.snapshots().snapshot(one, other, read_only=True),
            lambda: made.mount(one, world.place("other")),
        ]
        server.cut()
        try:
            for call in calls:
                begun = time.monotonic()
                with pytest.raises(exceptions.ServiceUnavailable, match=nfs_server.ADDRESS):
                    call()
                assert time.monotonic() - begun < PATIENCE
            assert made.mounted([path]) == {path}
            made.unmount(one, path)
            assert made.mounted([path]) == frozenset()
        finally:
            server.join()
        assert world.read(one) == "kept"
        world.again()
        assert world.backend.list() == [one]

    def test_server_that_was_never_there_is_named(
        self, world: volume_world.World, server: nfs_server.Server
    ) -> None:
        settings = {**world.options.settings, "path": "/nothing"}
        directory = world.options.directory.replace("/nfs", "/nfs2")
        options = dataclasses.replace(world.options, settings=settings, directory=directory)
        with pytest.raises(exceptions.HostNotReady, match=nfs_server.ADDRESS):
            world.open(options).start()

    def test_server_that_does_not_trust_root_is_named_with_the_cure(
        self, world: volume_world.World
    ) -> None:
        settings = {**world.options.settings, "path": nfs_server.SQUASHED}
        directory = world.options.directory.replace("/nfs", "/nfs2")
        options = dataclasses.replace(world.options, settings=settings, directory=directory)
        made = world.open(options)
        made.start()
        with pytest.raises(exceptions.HostNotReady, match="no_root_squash"):
            made.create(str(uuid.uuid4()), model.Spec())
        made.close()


class TestRemoteSnapshots(_Remote, volume_abilities_contract.SnapshotContract):
    def test_snapshot_for_which_there_is_no_room_leaves_nothing(
        self, world: volume_world.World, server: nfs_server.Server
    ) -> None:
        one = world.create()
        with world.mounted(one) as path:
            (path / "much").write_bytes(bytes(b"x" * (250 * MIB)))
        with pytest.raises(exceptions.NoSpace, match=nfs_server.ADDRESS):
            world.snapshots().snapshot(one, str(uuid.uuid4()), read_only=True)
        assert [each.name for each in server.directory.iterdir()] == [one]
