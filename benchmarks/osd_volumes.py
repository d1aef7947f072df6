# SPDX-License-Identifier: Apache-2.0
"""A volume's life through the Docker plugin, against the same btrfs and mount commands alone.

The floor runs them one after the other, as root, without a daemon between. The root helper does
what they do by system calls of its own, which saves five starts of a program: so a life may take
less than its floor. To tell where its time goes, root's part is done alone as well, and Docker's
four requests are made once more where nothing is to be done. What then remains is the service's
own: three waits for the disk, so that no power cut leaves a volume half-made, and three records of
use, seven locks and nine transactions, so that no crash does.
"""

import itertools
import statistics
import subprocess
import uuid
from collections.abc import Callable, Iterator

from benchmarks import harness, osd
from container_stack.rootwrap import commands, executor

ROUNDS = 25
STEPS = ("create", "mount", "unmount", "remove")
_SIZE = str(1 << 30)


def run() -> Iterator[harness.Claim]:
    """Measure and yield the claim."""
    times: dict[str, list[list[float]]] = {"plain": [], "helped": [], "idle": [], "ours": []}
    with osd.daemon() as made:
        runner = executor.Executor(made.helper, state_dir=str(made.state_dir))
        lives = (_floor(made), _helped(made, runner), _idle(made), _plugin(made))
        for number in range(3 if harness.smoke else ROUNDS):
            for kind, life in zip(times, lives, strict=True):
                steps = [harness.timed(step) for step in life(f"bench-{number}")]
                times[kind].append(steps)
        runner.close()
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
        f"{detail}; {harness.ms(whole['ours'])} / {harness.ms(whole['plain'])} in all, of which "
        f"root's part takes {harness.ms(whole['helped'])}, HTTP {harness.ms(whole['idle'])}, and "
        f"the service {harness.ms(whole['ours'] - whole['helped'] - whole['idle'])}",
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


def _helped(made: osd.Daemon, runner: executor.Executor) -> Life:
    """Root's part, beside the daemon's own volumes."""
    point = made.state_dir / "mounts" / "btrfs" / "helped"

    def life(_name: str) -> list[Callable[[], object]]:
        path = str(made.disk / "volumes" / str(uuid.uuid4()))

        def create() -> None:
            runner.run(commands.btrfs.CREATE, path=path, size=_SIZE)

        def mount() -> None:
            point.mkdir()
            runner.run(commands.fs.MOUNT_DIRECTORY, access="rw", source=path, path=str(point))

        def unmount() -> None:
            runner.run(commands.fs.UNMOUNT_DIRECTORY, path=str(point))
            point.rmdir()

        return [create, mount, unmount, lambda: runner.run(commands.btrfs.DELETE, path=path)]

    return life


def _idle(made: osd.Daemon) -> Life:
    """As many requests, for a volume that isn't there."""
    plugin = osd.Plugin(made.plugin)

    def life(name: str) -> list[Callable[[], object]]:
        return [lambda: plugin.ask("Unmount", name, ID="0" * 64)] * len(STEPS)

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
