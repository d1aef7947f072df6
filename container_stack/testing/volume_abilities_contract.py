# SPDX-License-Identifier: Apache-2.0
"""The contract suite of backends of volumes, second part: devices, snapshots, growth."""

import os
import uuid
from collections.abc import Iterator

import pytest

from container_stack import exceptions
from container_stack.testing import volume_world
from container_stack.testing.volume_world import LARGE, MEDIUM, MIB, SMALL, World
from container_stack.volumes import backend


class BlockContract(volume_world.VolumeFixtures):
    """What those backends must do besides that keep devices."""

    def test_device_comes_and_goes_and_the_content_stays(self, world: World) -> None:
        made, one = world.blocks(), world.create()
        world.write(one, "kept")
        assert made.attach(one) == made.attach(one)
        assert os.path.exists(made.attach(one))
        made.detach(one)
        made.detach(one)
        assert world.read(one) == "kept"

    def test_mounted_device_is_not_detached(self, world: World) -> None:
        made, one = world.blocks(), world.create()
        with world.mounted(one) as path:
            with pytest.raises(exceptions.Busy):
                made.detach(one)
            (path / "text").write_text("kept", encoding="utf-8")
        assert world.read(one) == "kept"

    def test_file_system_that_is_there_keeps_its_data(self, world: World) -> None:
        made, one = world.blocks(), world.create()
        first, *others = made.filesystems
        made.attach(one)
        made.format(one, first)
        world.write(one, "kept")
        made.attach(one)
        made.format(one, first)
        for other in (*others, "minix"):
            with pytest.raises(exceptions.InvalidRequest):
                made.format(one, other)
        made.detach(one)
        assert world.read(one) == "kept"

    def test_unknown_device_is_not_found(self, world: World) -> None:
        made, none = world.blocks(), str(uuid.uuid4())
        for action in (made.attach, made.detach, lambda one: made.format(one, "")):
            with pytest.raises(exceptions.NotFound):
                action(none)

    def test_figures_begin_when_a_device_is_attached(self, world: World) -> None:
        made, one = world.blocks(), world.create()
        if not isinstance(made, backend.Counting):
            pytest.skip("the backend doesn't claim to count")
        with pytest.raises(exceptions.NotSupported):
            made.stats(one)
        with world.mounted(one) as path:
            with (path / "much").open("wb") as file:
                file.write(os.urandom(5 * MIB))
                os.fsync(file.fileno())
            found = made.stats(one)
            assert found.writes > 0
            assert found.write_bytes % 512 == 0
            assert min(found.reads, found.read_bytes, found.io_progress) >= 0
        with pytest.raises(exceptions.NotSupported):
            made.stats(one)


class TakingContract(volume_world.VolumeFixtures):
    """What those backends must do besides whose volumes are taken from dead hosts.

    It is joined with one fixture more, ``there``: options of another host with the same volumes.
    """

    @pytest.fixture
    def there(self) -> volume_world.Options:
        """Override."""
        raise NotImplementedError

    @pytest.fixture
    def dead(self, world: World, there: volume_world.Options) -> Iterator[backend.BlockBackend]:
        """The other host's backend, which has attached and doesn't detach before the end."""
        made = world.open(there)
        assert isinstance(made, backend.BlockBackend)
        made.start()
        yield made
        for one in made.list():
            made.detach(one)
        made.close()

    def test_volume_of_a_dead_host_is_taken_with_what_is_in_it(
        self, world: World, dead: backend.BlockBackend
    ) -> None:
        made, one = world.blocks(), world.create()
        world.write(one, "kept")
        dead.attach(one)
        with pytest.raises(exceptions.Busy):
            made.attach(one)
        world.taking().take(one)
        world.taking().take(one)
        assert world.read(one) == "kept"
        world.write(one, "changed")

    def test_host_that_comes_back_does_not_have_it_any_more(
        self, world: World, dead: backend.BlockBackend
    ) -> None:
        one = world.create()
        dead.attach(one)
        world.taking().take(one)
        with world.mounted(one) as path:
            with pytest.raises(exceptions.Busy):
                dead.attach(one)
            (path / "text").write_text("kept", encoding="utf-8")
        assert world.read(one) == "kept"

    def test_what_is_here_or_nowhere_is_left_alone(self, world: World) -> None:
        made, one = world.blocks(), world.create()
        world.taking().take(one)
        device = made.attach(one)
        world.taking().take(one)
        assert made.attach(one) == device
        made.detach(one)


class SnapshotContract(volume_world.VolumeFixtures):
    """What those backends must do besides that snapshot, grow or restore."""

    def test_snapshot_keeps_what_was_written_until_then(self, world: World) -> None:
        made, one, then = world.snapshots(), world.create(), str(uuid.uuid4())
        with world.mounted(one) as path:
            (path / "text").write_text("before", encoding="utf-8")
            made.snapshot(one, then, read_only=True)
            (path / "text").write_text("after", encoding="utf-8")
            assert world.read(then) == "before"
            assert (path / "text").read_text(encoding="utf-8") == "after"
        assert world.again().list() == sorted([one, then])
        assert world.read(one) == "after"

    def test_writable_snapshot_lives_on_without_its_volume(self, world: World) -> None:
        made, one, two = world.snapshots(), world.create(), str(uuid.uuid4())
        world.write(one, "first")
        made.snapshot(one, two, read_only=False)
        world.write(two, "changed")
        assert world.read(one) == "first"
        world.backend.delete(one)
        assert world.read(two) == "changed"
        world.write(two, "again")
        assert world.backend.list() == [two]

    def test_snapshotting_again_changes_nothing(self, world: World) -> None:
        made, one, then = world.snapshots(), world.create(), str(uuid.uuid4())
        world.write(one, "before")
        made.snapshot(one, then, read_only=True)
        world.write(one, "after")
        made.snapshot(one, then, read_only=True)
        assert world.read(then) == "before"

    def test_snapshot_of_a_snapshot_has_its_content(self, world: World) -> None:
        made, one = world.snapshots(), world.create()
        then, copy = str(uuid.uuid4()), str(uuid.uuid4())
        world.write(one, "first")
        made.snapshot(one, then, read_only=True)
        made.snapshot(then, copy, read_only=False)
        world.write(copy, "second")
        assert [world.read(each) for each in (one, then, copy)] == ["first", "first", "second"]

    def test_unknown_volume_can_not_be_snapshotted(self, world: World) -> None:
        with pytest.raises(exceptions.NotFound):
            world.snapshots().snapshot(str(uuid.uuid4()), str(uuid.uuid4()), read_only=True)
        assert world.backend.list() == []

    def test_deleted_snapshot_leaves_its_volume(self, world: World) -> None:
        made, one, then = world.snapshots(), world.create(), str(uuid.uuid4())
        world.write(one, "kept")
        made.snapshot(one, then, read_only=True)
        world.backend.delete(then)
        world.backend.delete(then)
        assert world.backend.list() == [one]
        assert world.read(one) == "kept"

    def test_mounted_volume_grows_and_has_the_room(self, world: World) -> None:
        made, one = world.growing(), world.create(SMALL)
        with world.mounted(one) as path:
            (path / "text").write_text("kept", encoding="utf-8")
            before = world.backend.usage(one).limit
            try:
                made.grow(one, LARGE)
            except exceptions.NotSupported:  # such as ext4, where the kernel lets nobody
                assert world.backend.usage(one).limit == before
                return
            assert LARGE * 3 // 4 < world.backend.usage(one).limit <= LARGE + 16 * MIB
            volume_world.write(path / "much", SMALL + 32 * MIB)
        assert world.read(one) == "kept"

    def test_unmounted_volume_grows_and_never_shrinks(self, world: World) -> None:
        made, one = world.growing(), world.create(SMALL)
        world.write(one, "kept")
        made.grow(one, MEDIUM)
        made.grow(one, MEDIUM)
        with pytest.raises(exceptions.InvalidRequest):
            made.grow(one, SMALL)
        with world.mounted(one):
            assert MEDIUM * 3 // 4 < world.backend.usage(one).limit <= MEDIUM + 16 * MIB
        assert world.read(one) == "kept"

    def test_restoring_brings_the_content_back_again_and_again(self, world: World) -> None:
        made, one, then = world.restoring(), world.create(), str(uuid.uuid4())
        world.write(one, "before")
        world.snapshots().snapshot(one, then, read_only=True)
        for text in ("after", "later", "latest"):
            world.write(one, text)
            made.restore(one, then)
            assert world.read(one) == "before"
        assert world.again().list() == sorted([one, then])
        world.write(one, "new")
        assert world.read(then) == "before"

    def test_mounted_volume_is_not_restored(self, world: World) -> None:
        made, one, then = world.restoring(), world.create(), str(uuid.uuid4())
        world.snapshots().snapshot(one, then, read_only=True)
        with world.mounted(one) as path:
            (path / "text").write_text("kept", encoding="utf-8")
            with pytest.raises(exceptions.Busy):
                made.restore(one, then)
        assert world.read(one) == "kept"

    def test_what_is_unknown_can_not_be_restored(self, world: World) -> None:
        made, one = world.restoring(), world.create()
        world.write(one, "kept")
        for volume, snapshot in ((one, str(uuid.uuid4())), (str(uuid.uuid4()), one)):
            with pytest.raises(exceptions.NotFound):
                made.restore(volume, snapshot)
        assert world.read(one) == "kept"
        assert world.backend.list() == [one]

    def test_sent_snapshot_is_received_as_it_was(self, world: World) -> None:
        made, one = world.sending(), world.create()
        first, second, copy, later = (str(uuid.uuid4()) for _ in range(4))
        streams = os.path.join(world.options.executor.state_dir, "streams")
        whole, change = (os.path.join(streams, str(uuid.uuid4())) for _ in range(2))
        world.write(one, "first")
        world.snapshots().snapshot(one, first, read_only=True)
        world.write(one, "second")
        world.snapshots().snapshot(one, second, read_only=True)
        made.send(first, whole)
        made.send(second, change, since=first)
        with pytest.raises(exceptions.AlreadyExists):
            made.send(first, whole)
        made.receive(copy, whole, MEDIUM)
        made.receive(copy, whole, MEDIUM)
        made.receive(later, change, MEDIUM)
        assert (world.read(copy), world.read(later)) == ("first", "second")
        os.truncate(whole, os.stat(whole).st_size // 2)
        with pytest.raises(exceptions.InvalidRequest):
            made.receive(str(uuid.uuid4()), whole, MEDIUM)
        assert world.again().list() == sorted([one, first, second, copy, later])
