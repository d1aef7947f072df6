# SPDX-License-Identifier: Apache-2.0
"""The daemon as an image: launched as a container, and as a managed plugin of the engine."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .. import storlet_host
from . import plugin_world

TOOL = Path(__file__).parents[3] / "tools" / "osd-image.sh"
#: Where its volumes are, for it and for Docker alike.
STATE = Path("/var/lib/osd")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="an engine of its own needs root")


def _tool(engine: plugin_world.PluginDockerd, *argv: str) -> None:
    environment = {
        **os.environ,
        "PYTHON": sys.executable,
        "CONFIG": "/nonexistent",
        "DOCKER_HOST": engine.url,
        "ENGINE_SOCKET": engine.url.removeprefix("unix://"),
        "PLUGIN_DIR": str(engine.sockets),
    }
    subprocess.run([TOOL, *argv], check=True, env=environment)


def _base(path: Path) -> None:
    assert shutil.which("mmdebstrap"), "Install mmdebstrap: the image is made of packages."
    subprocess.run([TOOL, "base", str(path)], check=True)


@pytest.fixture(scope="module")
def dockerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[plugin_world.PluginDockerd]:
    """An engine that has the image."""
    directory = tmp_path_factory.mktemp("image")
    recipe = TOOL.read_text(encoding="utf-8").partition("base() {")[2].partition("\n}")[0]
    name = f"osd-base-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}.tar"
    base = storlet_host.cached(name, _base)
    with plugin_world.plugin_dockerd(directory / "dockerd") as started:
        _tool(started, "build", str(base))
        yield started


@pytest.fixture
def _state(dockerd: plugin_world.PluginDockerd, tmp_path: Path) -> Iterator[None]:
    """The engine has a state directory of its own, which nobody else sees."""
    there = STATE.exists()
    STATE.mkdir(exist_ok=True)
    enter = ("nsenter", f"--mount=/proc/{dockerd.pid}/ns/mnt")
    subprocess.run([*enter, "mount", "--bind", str(tmp_path), str(STATE)], check=True)
    yield
    subprocess.run([*enter, "umount", str(STATE)], check=True)
    if not there:
        STATE.rmdir()


def _use(engine: plugin_world.PluginDockerd, driver: str) -> None:
    """Make a volume, use it from two containers, and remove it."""
    made = ("volume", "create", "-d", driver, "-o", "size=330M", "carried")
    deadline = time.monotonic() + 120
    while engine.docker(*made, check=False).returncode:
        assert time.monotonic() < deadline
    run = ("run", "--rm", "--network", "none", "-v", "carried:/data", plugin_world.IMAGE)
    engine.docker(*run, "sh", "-c", "grep -q ' /data xfs ' /proc/mounts && echo yes >/data/x")
    assert engine.docker(*run, "cat", "/data/x").stdout == "yes\n"
    engine.docker("volume", "rm", "carried")


@pytest.mark.usefixtures("_state")
def test_it_is_launched_as_a_container(dockerd: plugin_world.PluginDockerd) -> None:
    _tool(dockerd, "launch")
    try:
        _use(dockerd, "loop")
        assert "loop" in dockerd.docker("exec", "osd", "osd", "driver", "list").stdout
        assert "Traceback" not in dockerd.docker("logs", "osd").stderr
    finally:
        dockerd.docker("stop", "osd")
        dockerd.docker("rm", "osd")


def test_it_is_a_managed_plugin(dockerd: plugin_world.PluginDockerd) -> None:
    _tool(dockerd, "plugin", "cstest/loop", "loop")
    dockerd.docker("plugin", "enable", "cstest/loop")
    try:
        _use(dockerd, "cstest/loop")
    finally:
        dockerd.docker("plugin", "disable", "-f", "cstest/loop")
        dockerd.docker("plugin", "rm", "cstest/loop")
