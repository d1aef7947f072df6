# SPDX-License-Identifier: Apache-2.0
"""The quota groups of btrfs, as far as no btrfs is needed."""

import os
import sys
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import pytest

from container_stack.host import btrfs_quota


@pytest.fixture(autouse=True)
def hasty() -> Iterator[None]:
    """Let threads take turns all the time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class _Runner:
    """Knows the id of every subvolume, which is its name."""

    def run(self, command: object, **values: Any) -> str:
        return os.path.basename(values.get("path", "0"))


def test_volumes_are_forgotten_while_others_are_looked_up(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(btrfs_quota, "_tree_id", lambda path: int(os.path.basename(path)))
    runner: Any = _Runner()
    quota = btrfs_quota.Quota(runner, str(tmp_path))
    for number in range(1, 401):
        (tmp_path / str(number)).mkdir()

    def live(number: int) -> None:
        path = str(tmp_path / str(number % 7 + 1))
        for _ in range(50):
            assert quota.id_of(path) == number % 7 + 1
            quota.forget(path, number)

    for number in range(1, 401):
        assert quota.id_of(str(tmp_path / str(number))) == number
    with futures.ThreadPoolExecutor(8) as threads:
        list(threads.map(live, range(24)))
