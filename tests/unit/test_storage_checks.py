# SPDX-License-Identifier: Apache-2.0
"""What every backend refuses, and what a pool's settings must be."""

from collections.abc import Callable

import pytest

from container_stack import exceptions
from container_stack.host import loop, lvm, storage, storage_checks
from container_stack.rootwrap import executor

MIB = 1024**2


@pytest.fixture
def runner() -> executor.Executor:
    return executor.Executor(state_dir="/nonexistent/state")  # starts nothing until it is used


@pytest.mark.parametrize("name", ["a", "0", "a-b_c.d", "a.b.c", "x" * 63])
def test_usable_ids_are_admitted(name: str) -> None:
    storage_checks.check_id(name)


@pytest.mark.parametrize("name", ["", ".", "..", "a.", "a..b", ".a", "A", "a/b", "a\n", "\u0660"])
def test_unusable_ids_are_refused(name: str) -> None:
    with pytest.raises(exceptions.InvalidRequest, match="can't be an id"):
        storage_checks.check_id(name)


@pytest.mark.parametrize(("kind", "least"), [("xfs", 300), ("btrfs", 128), ("ext4", 16)])
def test_least_size_is_that_of_the_file_system(kind: str, least: int) -> None:
    storage_checks.check_size(least * MIB, kind)
    with pytest.raises(exceptions.InvalidRequest, match=str(least * MIB)):
        storage_checks.check_size(least * MIB - 1, kind)


def test_unknown_file_system_is_refused_with_those_there_are() -> None:
    with pytest.raises(exceptions.InvalidRequest, match="xfs, ext4, btrfs"):
        storage_checks.check_size(MIB, "zfs")


def test_labels_are_merged_and_none_removes() -> None:
    merged = storage_checks.merge_labels({"a": "1", "b": "2"}, {"b": None, "c": "", "d": None})
    assert merged == {"a": "1", "c": ""}


@pytest.mark.parametrize(
    ("factory", "settings", "text"),
    [
        (loop.LoopStorage.open, {"volume_group": "g"}, "volume_group"),
        (loop.LoopStorage.open, {"thin_pool": "p"}, "thin_pool"),
        (loop.LoopStorage.open, {"options": {"colour": "red"}}, "colour"),
        (loop.LoopStorage.open, {"filesystem": "zfs"}, "zfs"),
        (loop.LoopStorage.open, {"limit": 299 * MIB}, "holds no volume"),
        (loop.LoopStorage.open, {"limit": 0}, "holds no volume"),
        (lvm.LVMStorage.open, {}, "name of a volume group"),
        (lvm.LVMStorage.open, {"volume_group": "g", "limit": MIB}, "limit"),
        (lvm.LVMStorage.open, {"volume_group": "a/b"}, "a/b"),
        (lvm.LVMStorage.open, {"volume_group": "g", "thin_pool": "-x"}, "-x"),
        (lvm.LVMStorage.open, {"volume_group": "g", "filesystem": "zfs"}, "zfs"),
    ],
)
def test_settings_that_make_no_sense_are_refused_at_once(
    runner: executor.Executor,
    factory: Callable[[storage.Pool], storage.Storage],
    settings: dict[str, object],
    text: str,
) -> None:
    with pytest.raises(exceptions.InvalidRequest, match=text):
        factory(storage.Pool(runner, **settings))  # type: ignore[arg-type]
