# SPDX-License-Identifier: Apache-2.0
"""The Docker volume plugin when the engine, the daemon or its uses' records are lost."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from container_stack.drivers import docker_uses

from . import osd_daemon, plugin_world

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="an engine of its own needs root")

MakeWorld = Callable[..., plugin_world.World]
MakeDaemon = Callable[..., osd_daemon.Daemon]


@pytest.fixture
def dockerd(tmp_path: Path) -> Iterator[plugin_world.PluginDockerd]:
    with plugin_world.plugin_dockerd(tmp_path / "dockerd") as started:
        yield started


def start(engine: plugin_world.PluginDockerd, volume: str, *argv: str, command: str = "") -> str:
    """Start a container with a volume, and return its id."""
    said = engine.docker(
        *("run", "-d", "--init", "--network", "none", "-v", f"{volume}:/data", *argv),
        *(plugin_world.IMAGE, "sh", "-c", command or "sleep 3600"),
    )
    return said.stdout.strip()


def until(true: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


# A crash of the engine ------------------------------------------------------------------------


@pytest.fixture
def world(dockerd: plugin_world.PluginDockerd, tmp_path: Path) -> Iterator[plugin_world.World]:
    with plugin_world.World(dockerd, tmp_path / "osd").running() as world:
        yield world


def test_what_a_killed_engine_never_unmounts_is_ended(world: plugin_world.World) -> None:
    world.create("left")
    container = start(world.dockerd, "left")
    world.dockerd.kill()
    assert world.reconciler.look() == []  # nobody knows
    assert world.counts() == [1]
    world.dockerd.start()
    done = world.reconciler.look()
    assert len(done) == 1
    assert world.counts() == []
    assert not list(world.mounts.iterdir())
    world.docker("start", container)
    assert world.counts() == [1]
    world.docker("rm", "-f", container)
    assert world.counts() == []


def test_a_container_that_always_restarts_comes_back_with_its_volume(
    world: plugin_world.World,
) -> None:
    world.create("always")
    container = start(
        world.dockerd, "always", "--restart=always", command="date >>/data/runs; exec sleep 3600"
    )
    until((world.mounts / "always" / "runs").exists)
    world.dockerd.kill()
    world.dockerd.start()
    until(lambda: len((world.mounts / "always" / "runs").read_text().splitlines()) == 2)
    world.reconciler.look()
    assert world.counts() in ([1], [2])
    world.docker("rm", "-f", container)
    world.reconciler.look()
    assert world.counts() == []


def test_a_container_that_runs_on_keeps_its_volume(tmp_path: Path) -> None:
    with (
        plugin_world.plugin_dockerd(tmp_path / "dockerd", "--live-restore") as dockerd,
        plugin_world.World(dockerd, tmp_path / "osd").running() as world,
    ):
        world.create("live")
        container = start(dockerd, "live", command="while date >>/data/x; do sleep 0.1; done")
        dockerd.kill()
        dockerd.start()
        assert world.reconciler.look() == []
        assert world.counts() == [1]
        written = (world.mounts / "live" / "x").stat().st_size
        until(lambda: (world.mounts / "live" / "x").stat().st_size > written)
        dockerd.docker("rm", "-f", container)
        assert world.counts() == []


def test_an_engine_that_came_back_is_noticed(world: plugin_world.World) -> None:
    reconciler = docker_uses.Reconciler(world.engine, [world.plugin], interval=3600)
    reconciler.start()
    try:
        world.create("noticed")
        start(world.dockerd, "noticed")
        world.dockerd.kill()
        world.dockerd.start()
        until(lambda: world.counts() == [])
    finally:
        reconciler.stop()


def test_a_volume_is_removed_though_a_killed_engine_left_it_mounted(
    dockerd: plugin_world.PluginDockerd, tmp_path: Path
) -> None:
    with plugin_world.World(dockerd, tmp_path / "osd", grace=3600).running() as world:
        world.create("left")
        container = start(dockerd, "left")
        dockerd.kill()
        dockerd.start()
        assert world.reconciler.look() == []
        # Its container may be starting, for all that anybody knows; but Docker says that it isn't.
        assert world.counts() == [1]
        dockerd.docker("rm", container)
        dockerd.docker("volume", "rm", "left")
        assert world.volumes.list() == []


def test_a_container_whose_use_was_lost_has_it_again(world: plugin_world.World) -> None:
    world.create("lost")
    container = start(world.dockerd, "lost")
    for use in world.volumes.uses():
        # As an Unmount that Docker sends twice, since the first answer got lost.
        world.volumes.unmount(use.volume_id, use.path, holder=use.holder)
    assert world.counts() == []
    assert len(world.reconciler.look()) == 1
    assert [use.holder for use in world.volumes.uses()] == [container]
    assert world.reconciler.look() == []
    world.docker("rm", "-f", container)
    world.reconciler.look()
    assert world.counts() == []


def test_a_volume_of_the_same_name_elsewhere_isnt_taken_for_ours(
    world: plugin_world.World,
) -> None:
    world.volumes.create("same")
    world.docker("volume", "create", "-d", "local", "same", check=False)
    container = world.docker(
        *("run", "-d", "--network", "none", "--mount"),
        *("type=volume,src=other,dst=/data,volume-driver=local", plugin_world.IMAGE),
    ).stdout.strip()
    assert world.reconciler.look() == []
    assert world.counts() == []
    world.docker("rm", "-f", container)


# The daemon itself ----------------------------------------------------------------------------


@pytest.fixture
def make_daemon(dockerd: plugin_world.PluginDockerd, tmp_path: Path) -> Iterator[MakeDaemon]:
    """Start the daemon where the engine sees what it mounts."""
    made: list[osd_daemon.Daemon] = []
    directory = tmp_path / "osd"
    directory.mkdir()
    within = enter(dockerd)

    def make(drivers: dict[str, Any], **options: Any) -> osd_daemon.Daemon:
        scripts = Path(sys.executable).parent
        root_helper = osd_daemon.helper(directory / "etc", directory / "state", scripts)
        given = {"plugin_dir": str(dockerd.sockets), "docker_url": dockerd.url, **options}
        made.append(
            osd_daemon.Daemon(directory, drivers, within=within, root_helper=root_helper, **given)
        )
        return made[-1].start()

    yield make
    for container in dockerd.docker("ps", "-aq", "--no-trunc").stdout.split():
        dockerd.docker("rm", "-f", container)
    for each in made:
        clear(each)
        each.stop()
        left = mounted(dockerd, f"{each.state_dir}/mounts")
        assert left == []


def enter(dockerd: plugin_world.PluginDockerd) -> Sequence[str]:
    """Return words that run a command with the mounts of an engine."""
    return ("nsenter", f"--mount=/proc/{dockerd.pid}/ns/mnt", f"--wd={os.getcwd()}")


def mounted(dockerd: plugin_world.PluginDockerd, below: str) -> list[str]:
    """Return what is mounted below a directory, as the engine sees it."""
    lines = Path(f"/proc/{dockerd.pid}/mountinfo").read_text(encoding="utf-8").splitlines()
    return [path for path in (line.split(" ")[4] for line in lines) if path.startswith(below)]


def clear(daemon: osd_daemon.Daemon) -> None:
    for driver in ("loop", "btrfs"):
        for volume in daemon.cli(driver, "list", "-q").stdout.split():
            daemon.cli(driver, "unmount", volume)
            daemon.cli(driver, "delete", volume)


def test_a_killed_daemon_finds_its_mounts_again(
    dockerd: plugin_world.PluginDockerd, make_daemon: MakeDaemon
) -> None:
    daemon = make_daemon({"loop": None})
    dockerd.docker("volume", "create", "-d", "loop", "-o", "size=330M", "kept")
    path = f"{daemon.state_dir}/mounts/loop/kept"
    container = start(dockerd, "kept", command="while date >>/data/x; do sleep 0.1; done")
    daemon.kill()
    assert mounted(dockerd, path) == [path]
    daemon.start()
    assert mounted(dockerd, path) == [path]
    dockerd.docker("exec", container, "sh", "-c", "echo alive >/data/y")
    dockerd.docker("rm", "-f", container)
    assert mounted(dockerd, path) == []
    again = start(dockerd, "kept")
    assert dockerd.docker("exec", again, "cat", "/data/y").stdout == "alive\n"
    assert "in use" in dockerd.docker("volume", "rm", "kept", check=False).stderr
    dockerd.docker("rm", "-f", again)
    dockerd.docker("volume", "rm", "kept")
    assert daemon.run("loop", "list", "-q") == ""


def test_what_was_removed_while_the_daemon_was_away_can_be_removed(
    dockerd: plugin_world.PluginDockerd, make_daemon: MakeDaemon
) -> None:
    daemon = make_daemon({"loop": None})
    dockerd.docker("volume", "create", "-d", "loop", "-o", "size=330M", "away")
    path = f"{daemon.state_dir}/mounts/loop/away"
    container = start(dockerd, "away")
    daemon.kill()
    dockerd.docker("rm", "-f", container, check=False)
    assert mounted(dockerd, path) == [path]
    daemon.start()
    dockerd.docker("volume", "rm", "away")
    assert mounted(dockerd, path) == []
    assert daemon.run("loop", "list", "-q") == ""


def test_a_daemon_that_starts_with_the_engine_serves_what_always_restarts(
    dockerd: plugin_world.PluginDockerd, make_daemon: MakeDaemon
) -> None:
    daemon = make_daemon({"loop": None})
    dockerd.docker("volume", "create", "-d", "loop", "-o", "size=330M", "always")
    container = start(
        dockerd, "always", "--restart=always", command="date >>/data/runs; exec sleep 3600"
    )
    count = ("exec", container, "sh", "-c", "wc -l </data/runs")
    until(lambda: dockerd.docker(*count, check=False).stdout.strip() == "1")
    daemon.kill()
    # Docker asks again for a quarter of a minute, and then never more.
    dockerd.docker("exec", container, "kill", "-9", "-1", check=False)
    daemon.start()
    until(lambda: dockerd.docker(*count, check=False).stdout.strip() in ("2", "3"))


def test_a_quota_of_btrfs_is_what_the_container_gets(
    dockerd: plugin_world.PluginDockerd, make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    image, root = tmp_path / "btrfs.img", tmp_path / "root"
    root.mkdir()
    with image.open("wb") as file:
        file.truncate(512 * 1024**2)
    subprocess.run(["mkfs.btrfs", "-q", str(image)], check=True)
    subprocess.run([*enter(dockerd), "mount", "-o", "loop", str(image), str(root)], check=True)
    try:
        daemon = make_daemon({"btrfs": {"root_vol": str(root)}})
        dockerd.docker("volume", "create", "-d", "btrfs", "-o", "size=20M", "small")
        write = "dd if=/dev/zero of=/data/x bs=1M count=30 2>&1; sync; rm -f /data/x"
        container = start(dockerd, "small", command=write)
        dockerd.docker("wait", container)
        assert "quota" in dockerd.docker("logs", container).stdout.lower()
        dockerd.docker("rm", "-f", container)
        dockerd.docker("volume", "rm", "small")
        assert daemon.run("btrfs", "list", "-q") == ""
        daemon.stop()
    finally:
        subprocess.run([*enter(dockerd), "umount", str(root)], check=True)


# Ways to be found -----------------------------------------------------------------------------


def test_a_specification_leads_to_a_socket_elsewhere(
    dockerd: plugin_world.PluginDockerd, make_daemon: MakeDaemon, tmp_path: Path
) -> None:
    make_daemon({"loop": None}, plugin_dir=str(tmp_path / "elsewhere"))
    spec = dockerd.specs / "loop.spec"
    spec.write_text(f"unix://{tmp_path}/elsewhere/loop.sock\n", encoding="utf-8")
    dockerd.docker("volume", "create", "-d", "loop", "-o", "size=330M", "specified")
    said = dockerd.docker(
        *("run", "--rm", "--network", "none", "-v", "specified:/data", plugin_world.IMAGE),
        *("sh", "-c", "echo yes >/data/x; cat /data/x"),
    )
    assert said.stdout == "yes\n"
    dockerd.docker("volume", "rm", "specified")


def test_a_service_of_a_swarm_has_a_volume(
    dockerd: plugin_world.PluginDockerd, make_daemon: MakeDaemon
) -> None:
    daemon = make_daemon({"loop": None})
    # A swarm wants nodes whose engine knows the driver: by now it does.
    assert dockerd.docker("volume", "ls", "-q").stdout == ""
    dockerd.docker("swarm", "init", "--advertise-addr", "127.0.0.1")
    mount = "type=volume,src=swarmed,dst=/data,volume-driver=loop,volume-opt=size=330M"
    path = f"{daemon.state_dir}/mounts/loop/swarmed"
    try:
        dockerd.docker(
            *("service", "create", "-d", "--name", "cstest", "--network", "host"),
            *("--mount", mount, "--no-resolve-image", plugin_world.IMAGE),
            *("sh", "-c", "date >>/data/runs; exec sleep 3600"),
        )
        until(lambda: mounted(dockerd, path) == [path])
        dockerd.docker("service", "update", "-d", "--force", "cstest")
        tasks = ("service", "ps", "-q", "-f", "desired-state=shutdown", "cstest")
        until(lambda: dockerd.docker(*tasks).stdout.strip())
        until(lambda: len(dockerd.docker("ps", "-q").stdout.split()) == 1)
        assert mounted(dockerd, path) == [path]
        dockerd.docker("service", "rm", "cstest")
        until(lambda: mounted(dockerd, path) == [])
    finally:
        dockerd.docker("swarm", "leave", "--force")
    until(lambda: dockerd.docker("volume", "rm", "swarmed", check=False).returncode == 0)
