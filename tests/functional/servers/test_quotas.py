# SPDX-License-Identifier: Apache-2.0
"""Limits of what servers write, on engines that can and that can't."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.host import containers, images
from container_stack.servers import quotas
from container_stack.testing import btrfs_disk
from functional import busybox, dockerd

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="starting another dockerd needs root")

MIB = 1024**2


@pytest.fixture
def able(tmp_path: Path) -> Iterator[containers.Engine]:
    """An engine that keeps its data on btrfs."""
    with btrfs_disk.mounted(tmp_path / "d", size=2 * 1024**3) as directory:
        made = dockerd.Dockerd(directory, ("--storage-driver=btrfs",))
        made.start()
        engine = containers.Engine(made.url)
        yield engine
        engine.close()
        made.stop()


def choose(engine: containers.Engine, wanted: str) -> bool:
    return quotas.choose(engine, images.Images(engine), wanted, owner="cstest-quotas")


def test_server_writes_no_more_than_its_flavor_gives(able: containers.Engine) -> None:
    assert choose(able, "auto") is choose(able, "required") is True
    assert choose(able, "none") is False
    assert able.list() == []
    assert list(images.Images(able).all()) == []
    image = busybox.import_image(images.Images(able), "cstest-quota:1")
    spec = containers.ContainerSpec("cstest-quota", image.id, storage=64 * MIB, init=True)
    container_id = able.run(spec)
    write = ("dd", "if=/dev/urandom", "of=/much", "bs=1M", "count=200")
    result = able.exec(container_id, write, timeout=120)
    assert b"Disk quota exceeded" in result.stderr
    able.remove(container_id)


def test_engine_that_can_not_is_told_in_words(engine: containers.Engine) -> None:
    if "pquota" in str(engine.info()) or engine.info()["Driver"] in ("btrfs", "zfs"):
        pytest.skip("this machine's engine can")
    assert choose(engine, "auto") is choose(engine, "none") is False
    with pytest.raises(exceptions.HostNotReady, match="pquota, or set disk_quota"):
        choose(engine, "required")
    assert not engine.list({"container_stack.kind": quotas.KIND})
