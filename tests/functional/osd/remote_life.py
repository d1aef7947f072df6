# SPDX-License-Identifier: Apache-2.0
"""A process that isn't root's and has volumes, which other hosts keep: ``remote_life.py JSON``."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

from container_stack import exceptions
from container_stack.rootwrap import executor
from container_stack.volumes import backend, model, ownership, service, sql
from container_stack.volumes.backends import aws, nfs

MIB = 1024**2


def main() -> None:
    """Have volumes, snapshots and clones, and end them."""
    told = json.loads(sys.argv[1])
    name, state = told["name"], told["state"]
    assert os.geteuid() != 0
    runner = executor.Executor(told["helper"], state_dir=state)
    directory = os.path.join(state, "backends", name)
    options = backend.Options(name, runner, directory, told["settings"], "here")
    registry = sql.open(f"sqlite:///{state}/osd.sqlite")
    owner = ownership.Alone(registry, "here")
    made = service.VolumeService(name, _open(options, told), registry, owner, state_dir=state)
    made.start()
    try:
        _live(made)
    finally:
        made.stop()
        registry.close()
        runner.close()


def _open(options: backend.Options, told: dict[str, Any]) -> backend.Backend:
    if options.name == "nfs":
        return nfs.NFS(options)

    def find(disk_id: str, name: str) -> str:
        path = os.path.join(told["devices"], disk_id)
        return os.readlink(path) if os.path.lexists(path) else ""

    return aws.EBS(options, find=find, unit=told["unit"])


def _live(made: service.VolumeService) -> None:
    one = made.create("ledger", model.Spec(size=400 * MIB))
    path = made.mount(one.id, holder="container")
    then = made.snapshot(one.id, "monday")
    assert made.usage(one.id).used >= 0
    _refused(exceptions.Busy, lambda: made.restore(one.id, then.id))
    _refused(exceptions.Busy, lambda: made.delete(one.id))
    place = made.mount(then.id)
    assert _is_read_only(place)
    assert not _is_read_only(path)
    made.unmount(then.id)
    made.unmount(one.id, holder="container")
    made.restore(one.id, then.id)
    two = made.create("trial", source=model.Source(parent=then.id))
    made.mount(two.id)
    if isinstance(made.backend, backend.Growing):
        assert made.grow(two.id, 500 * MIB).spec.size == 500 * MIB
        assert made.usage(two.id).limit > 400 * MIB
        assert made.attach(one.id)
        made.detach(one.id)
        assert made.stats(two.id).reads > 0
    else:
        _refused(exceptions.NotSupported, lambda: made.attach(one.id))
        _refused(exceptions.NotSupported, lambda: made.format(one.id))
    made.unmount(two.id)
    assert [volume.name for volume in made.list()] == ["ledger", "monday", "trial"]
    assert sorted(made.backend.list()) == sorted([one.id, then.id, two.id])
    for each in (two, then, one):
        made.delete(each.id)
    assert made.list() == made.backend.list() == []


def _is_read_only(path: str) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _refused(kind: type[Exception], action: Callable[[], Any]) -> None:
    with pytest.raises(kind):
        action()


if __name__ == "__main__":
    main()
