# SPDX-License-Identifier: Apache-2.0
"""The guide to Open Storage: every command in it, typed as it stands there; a real engine."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from functional import busybox, dockerd
from functional.osd import osd_daemon, plugin_world

from container_stack.conf import osd_options
from container_stack.host import containers, images

from . import guide

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "doc" / "source" / "osd.rst"
BLOCKS = tuple(guide.blocks(GUIDE))
#: Whose blocks change this machine as a whole, and what alone may stand in them.
SETUP, OPERATOR = "setup", "operator"
INSTALLERS = {"apt-get", "pip", "useradd", "install", "container-stack", "systemctl"}


class World:
    """An engine with plugins of its own, and the daemon that the guide configures."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.daemon = osd_daemon.Daemon(directory, {})
        self.daemon.config.unlink()
        scripts = Path(sys.executable).parent
        helper = osd_daemon.helper(directory / "etc", self.daemon.state_dir, scripts)
        self.options = {
            "state_dir": str(self.daemon.state_dir),
            "plugin_dir": str(self.daemon.plugin_dir),
            "root_helper": helper,
            "docker_url": f"unix://{directory}/engine/sock",
        }

    @contextlib.contextmanager
    def running(self) -> Iterator["World"]:
        state = str(self.daemon.state_dir)
        os.makedirs(state)
        # As on a host with systemd: what is mounted below it the engine sees, too.
        subprocess.run(["mount", "--bind", state, state], check=True)
        try:
            subprocess.run(["mount", "--make-shared", state], check=True)
            with self._engine():
                yield self
        finally:
            subprocess.run(["umount", "--recursive", state], check=True)

    @contextlib.contextmanager
    def _engine(self) -> Iterator[None]:
        place = self.directory / "engine"
        place.mkdir()
        entered = (
            "sh",
            "-c",
            plugin_world.ENTER,
            "sh",
            str(self.daemon.plugin_dir),
            f"{place}/specs",
        )
        started = dockerd.Dockerd(
            place, (), ("unshare", "--mount", "--propagation", "slave", *entered)
        )
        started.start()
        try:
            engine = containers.Engine(started.url)
            busybox.import_image(images.Images(engine), plugin_world.IMAGE)
            engine.close()
            yield
        finally:
            self.daemon.stop()
            started.stop()

    def adapted(self, text: str) -> str:
        """Return a script with the names of this world."""
        more = "\n".join(f"  {name}: {value}" for name, value in self.options.items())
        names = {
            "osd:\n  drivers:": f"osd:\n{more}\n  drivers:",
            "/etc/container-stack/osd.yaml": str(self.daemon.config),
            "/var/lib/osd": str(self.daemon.state_dir),
            " busybox ": f" {plugin_world.IMAGE} ",
        }
        for ours, theirs in names.items():
            text = text.replace(ours, theirs)
        return text

    def type_in(self, block: guide.Block) -> str:
        """Run a block as an operator would, who stops at the first command that fails."""
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.adapted(block.script)],
            cwd=self.directory,
            env={**self.daemon.environment, "DOCKER_HOST": self.options["docker_url"]},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert ended.returncode == 0, (
            f"{GUIDE.name}, line {block.line}: {ended.returncode}\n{ended.stdout}\n{ended.stderr}"
        )
        return ended.stdout


def test_every_block_says_who_types_it() -> None:
    assert {block.who for block in BLOCKS} == {SETUP, OPERATOR}
    assert len(BLOCKS) > 8


def test_only_what_installs_isnt_typed() -> None:
    for block in BLOCKS:
        if block.who == SETUP:
            assert block.programs <= INSTALLERS, block.line


def test_all_commands_of_the_command_line_are_told() -> None:
    from container_stack.cmd.osd import main

    table = GUIDE.read_text(encoding="utf-8").partition("The command line")[2]
    words = set(re.findall(r"[A-Za-z-]+", table))
    names = {each.name for room in main.ROOMS.values() for each in room}
    assert names - {"enable-gossip", "disable-gossip", "shutdown"} <= words


def test_all_options_are_in_the_page() -> None:
    text = GUIDE.read_text(encoding="utf-8")
    shown = re.findall(r"^\.\. osd-options:: (\w+)$", text, re.M)
    assert {id(getattr(osd_options, name)) for name in shown} == {
        id(osd_options.OPTIONS),
        id(osd_options.CLUSTER),
        id(osd_options.LISTEN),
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="an engine of its own needs root")
def test_guide_leads_an_operator_from_nothing_to_a_volume_and_back(tmp_path: Path) -> None:
    with World(tmp_path).running() as world:
        printed = []
        for block in BLOCKS:
            if block.who == OPERATOR:
                printed.append(world.type_in(block))
                if len(printed) == 1:
                    world.daemon.start()
        said = "".join(printed)
        assert said.count("100\n") == 2, "once in the container, once on the host"
        assert world.daemon.json("loop", "list") == []
        assert "osd_" in (tmp_path / "metrics").read_text(encoding="utf-8")
