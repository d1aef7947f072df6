# SPDX-License-Identifier: Apache-2.0
"""A volume's life through the Docker plugin, against the same btrfs and mount commands alone.

The floor runs them one after the other, as root, without a daemon between.
"""

import itertools
import statistics
import subprocess
from collections.abc import Callable, Iterator

from benchmarks import harness, osd

ROUNDS = 25
STEPS = ("create", "mount", "unmount", "remove")
_SIZE = str(1 << 30)


def run() -> Iterator[harness.Claim]:
    """Measure and yield the claim."""
    times: dict[str, list[list[float]]] = {"plain": [], "ours": []}
    with osd.daemon() as made:
        plain, ours = _floor(made), _plugin(made)
        for number in range(3 if harness.smoke else ROUNDS):
            for kind, life in (("plain", plain), ("ours", ours)):
                steps = [harness.timed(step) for step in life(f"bench-{number}")]
                times[kind].append(steps)
    whole = {kind: statistics.median(map(sum, rounds)) for kind, rounds in times.items()}
    parts = {
        kind: [statistics.median(each) for each in zip(*rounds, strict=True)]
        for kind, rounds in times.items()
    }
    detail = ", ".join(
        f"{step} {harness.ms(ours_)} / {harness.ms(plain_)}"
        for step, plain_, ours_ in zip(STEPS, parts["plain"], parts["ours"], strict=True)
    )
    yield harness.Claim(
        "volume's life through the plugin / the same commands alone",
        whole["ours"] / whole["plain"],
        1.5,
        True,
        detail,
    )


Life = Callable[[str], list[Callable[[], object]]]


def _floor(made: osd.Daemon) -> Life:
    (made.disk / "plain").mkdir()
    (made.directory / "mounts").mkdir()
    numbers = itertools.count()

    def life(_name: str) -> list[Callable[[], object]]:
        path = str(made.disk / "plain" / f"{next(numbers)}")
        point = made.directory / "mounts" / "here"

        def create() -> None:
            _run("btrfs", "-q", "subvolume", "create", path)
            _run("btrfs", "qgroup", "limit", _SIZE, path)

        def mount() -> None:
            point.mkdir()
            _run("mount", "-o", "bind,rw,nosuid,nodev", path, str(point))

        def unmount() -> None:
            _run("umount", str(point))
            point.rmdir()

        return [create, mount, unmount, lambda: _run("btrfs", "-q", "subvolume", "delete", path)]

    return life


def _plugin(made: osd.Daemon) -> Life:
    plugin = osd.Plugin(made.plugin)

    def life(name: str) -> list[Callable[[], object]]:
        return [
            lambda: plugin.ask("Create", name, Opts={"size": _SIZE}),
            lambda: plugin.ask("Mount", name, ID="0" * 64),
            lambda: plugin.ask("Unmount", name, ID="0" * 64),
            lambda: plugin.ask("Remove", name),
        ]

    return life


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True)
