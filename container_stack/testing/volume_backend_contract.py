# SPDX-License-Identifier: Apache-2.0
"""The contract suite of :class:`container_stack.volumes.backend.Backend`.

A backend joins with two fixtures, what makes it and what it is given::

    class TestMine(volume_backend_contract.VolumeBackendContract):
        @pytest.fixture
        def open_backend(self):
            return mine.MyVolumes

        @pytest.fixture
        def options(self, tmp_path):
            runner = privilege.make_executor(tmp_path / "state", drivers=["osd"])
            directory = str(tmp_path / "state" / "backends" / "mine")
            yield backend.Options("mine", runner, directory)
            runner.close()

What the backend doesn't claim is skipped, nothing else. Backends that mount need root, or a user
who may start the rootwrap daemon. :mod:`.volume_abilities_contract` is joined in the same way.
"""

import concurrent.futures
import os
import pathlib
import uuid

import pytest

from container_stack import exceptions
from container_stack.testing import volume_world
from container_stack.testing.volume_world import MEDIUM, MIB, SMALL, World
from container_stack.volumes import backend, model


class VolumeBackendContract(volume_world.VolumeFixtures):
    """What every backend of volumes must do."""

    def test_new_volume_is_empty_and_can_be_written(self, world: World) -> None:
        one = world.create()
        with world.mounted(one) as path:
            assert [name for name in os.listdir(path) if name != "lost+found"] == []
        world.write(one, "kept")
        assert world.read(one) == "kept"

    def test_all_is_known_to_a_daemon_that_has_just_started(self, world: World) -> None:
        one, two = sorted([world.create(), world.create(MEDIUM)])
        world.write(one, "kept")
        assert world.again().list() == [one, two] == world.backend.list()
        assert world.read(one) == "kept"

    def test_creating_again_changes_nothing(self, world: World) -> None:
        one = world.create()
        world.write(one, "kept")
        world.backend.create(one, model.Spec(size=SMALL))
        assert world.read(one) == "kept"
        assert world.backend.list() == [one]

    def test_every_file_system_that_it_claims_can_be_had_and_no_other(self, world: World) -> None:
        for kind in world.backend.filesystems:
            one = world.create(filesystem=kind)
            world.write(one, kind)
            assert world.read(one) == kind
            world.backend.delete(one)
        with pytest.raises(exceptions.InvalidRequest):
            world.create(filesystem="minix")
        assert world.backend.list() == []

    def test_absurd_size_is_refused_and_nothing_is_made(self, world: World) -> None:
        if not world.backend.limits:
            pytest.skip("the backend doesn't claim that sizes are limits")
        with pytest.raises((exceptions.NoSpace, exceptions.InvalidRequest)):
            world.create(model.LARGEST - 1)
        assert world.backend.list() == []

    def test_unknown_volume_is_not_found_and_deleting_it_does_nothing(self, world: World) -> None:
        none = str(uuid.uuid4())
        with pytest.raises(exceptions.NotFound):
            world.backend.mount(none, world.place())
        with pytest.raises(exceptions.NotFound):
            world.backend.usage(none)
        world.backend.delete(none)
        assert not os.path.lexists(world.place())

    def test_deleted_volume_is_gone_and_its_id_can_be_used_again(self, world: World) -> None:
        one, two = world.create(), world.create()
        world.write(one, "old")
        world.backend.delete(one)
        world.backend.delete(one)
        assert world.backend.list() == [two]
        world.backend.create(one, model.Spec(size=SMALL))
        with world.mounted(one) as path:
            assert not (path / "text").exists()

    def test_volume_is_mounted_at_several_paths_which_show_the_same(self, world: World) -> None:
        one = world.create()
        here, there = world.place("here"), world.place("There.2")
        world.mount(one, here)
        world.mount(one, there)
        pathlib.Path(here, "text").write_text("kept", encoding="utf-8")
        assert pathlib.Path(there, "text").read_text(encoding="utf-8") == "kept"
        assert world.backend.mounted([here, there, world.place("other")]) == {here, there}
        world.unmount(one, here)
        assert world.backend.mounted([here, there]) == {there}
        assert not os.path.lexists(here)
        assert pathlib.Path(there, "text").read_text(encoding="utf-8") == "kept"
        world.unmount(one, there)

    def test_mounting_and_unmounting_again_change_nothing(self, world: World) -> None:
        one, path = world.create(), world.place()
        world.mount(one, path)
        pathlib.Path(path, "text").write_text("kept", encoding="utf-8")
        world.mount(one, path)
        assert pathlib.Path(path, "text").read_text(encoding="utf-8") == "kept"
        world.unmount(one, path)
        assert world.backend.mounted([path]) == frozenset()
        world.backend.unmount(one, path)
        assert not os.path.lexists(path)

    def test_mount_point_of_another_volume_is_refused(self, world: World) -> None:
        one, two = world.create(), world.create()
        with world.mounted(one) as path:
            (path / "text").write_text("kept", encoding="utf-8")
            with pytest.raises(exceptions.Busy):
                world.mount(two, str(path))
            assert (path / "text").read_text(encoding="utf-8") == "kept"

    def test_used_mount_is_not_unmounted(self, world: World) -> None:
        one, path = world.create(), world.place()
        world.mount(one, path)
        with world.used(path), pytest.raises(exceptions.Busy):
            world.backend.unmount(one, path)
        assert world.backend.mounted([path]) == {path}
        world.unmount(one, path)

    def test_mounted_volume_is_not_deleted(self, world: World) -> None:
        one = world.create()
        with world.mounted(one) as path:
            (path / "text").write_text("kept", encoding="utf-8")
            with pytest.raises(exceptions.Busy):
                world.backend.delete(one)
        assert world.read(one) == "kept"

    def test_mounts_are_known_to_a_daemon_that_has_just_started(self, world: World) -> None:
        one, path = world.create(), world.place()
        world.mount(one, path)
        fresh = world.again()
        assert fresh.mounted([path]) == {path}
        with pytest.raises(exceptions.Busy):
            fresh.delete(one)
        fresh.unmount(one, path)
        assert not os.path.lexists(path)
        if isinstance(fresh, backend.BlockBackend):
            fresh.detach(one)

    def test_what_a_read_only_mount_is_told_to_write_is_not_in_the_volume(
        self, world: World
    ) -> None:
        one = world.create()
        world.write(one, "kept")
        with world.mounted(one, read_only=True) as path:
            try:
                (path / "text").write_text("changed", encoding="utf-8")
            except OSError:
                assert (path / "text").read_text(encoding="utf-8") == "kept"
        assert world.read(one) == "kept"

    def test_usage_follows_what_is_written_also_after_unmounting(self, world: World) -> None:
        one = world.create(MEDIUM)
        with world.mounted(one):
            before = world.backend.usage(one).used
        with world.mounted(one) as path:
            with (path / "much").open("wb") as file:
                file.write(os.urandom(96 * MIB))
                os.fsync(file.fileno())
            os.sync()
            assert 90 * MIB < world.backend.usage(one).used - before < 120 * MIB
        assert 90 * MIB < world.backend.usage(one).used - before < 120 * MIB

    def test_volume_does_not_take_more_than_its_size(self, world: World) -> None:
        if not world.backend.limits:
            pytest.skip("the backend doesn't claim that sizes are limits")
        one = world.create(SMALL)
        with world.mounted(one) as path:
            limit = world.backend.usage(one).limit
            assert SMALL // 2 < limit <= SMALL + 16 * MIB
            with pytest.raises(OSError, match=r"space|quota"):
                volume_world.write(path / "much", MEDIUM)
            assert world.backend.usage(one).used <= SMALL + 16 * MIB
            (path / "much").unlink()

    def test_many_volumes_live_at_once(self, world: World) -> None:
        def live(number: int) -> str:
            one = world.create()
            world.write(one, str(number))
            assert world.read(one) == str(number)
            if number % 3 == 0:
                world.backend.delete(one)
                return ""
            return one

        with concurrent.futures.ThreadPoolExecutor(4) as threads:
            kept = [one for one in threads.map(live, range(8)) if one]
        assert world.backend.list() == sorted(kept)
