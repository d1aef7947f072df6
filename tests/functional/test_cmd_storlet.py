# SPDX-License-Identifier: Apache-2.0
"""``container-stack storlet`` on one host, as somebody would type it; no Swift takes part."""

import json
import os
import subprocess
import sys
import uuid
from importlib import metadata

import pytest

from container_stack.host import images

COMMANDS = sorted(
    point.name.removeprefix("storlet_").replace("_", " ")
    for point in metadata.entry_points(group="container_stack.cli")
    if point.name.startswith("storlet_")
)
GATEWAY = """\
[DEFAULT]
container_mem_limit = 67108864
container_pids_limit = 32
container_cpu_period = 100000
container_cpu_quota = 50000
"""


class World:
    """A configuration, a Dockerfile's directory, and the program."""

    def __init__(self, directory, base, name):
        self.directory = directory
        self.base = base
        self.name = name
        self.config = directory / "container-stack.conf"
        (directory / "gateway.conf").write_text(GATEWAY)
        self.context = directory / "context"
        self.context.mkdir()
        self.configure()

    def configure(self, **values):
        facts = {
            "gateway_conf": self.directory / "gateway.conf",
            "inventory": self.directory / "nodes.yaml",
            "base_image": self.base,
            "sandbox_user": "1234",
            "state_dir": self.directory / "state",
        }
        lines = [f"{name} = {value}\n" for name, value in {**facts, **values}.items()]
        self.config.write_text("[storlets]\n" + "".join(lines))

    def run(self, *words):
        """Return exit code, standard output and standard error."""
        argv = [sys.executable, "-m", "container_stack.cmd.main", "storlet", *words]
        ended = subprocess.run(
            argv,
            env={**os.environ, "CONTAINER_STACK_CONFIG": str(self.config)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return ended.returncode, ended.stdout, ended.stderr

    def build(self, *lines, options=()):
        (self.context / "Dockerfile").write_text("\n".join([f"FROM {self.base}", *lines, ""]))
        words = ("--tag", self.name, "-f", "json", *options)
        code, out, err = self.run("build", str(self.context), *words)
        assert out, err
        return code, json.loads(out)


@pytest.fixture
def world(tmp_path, busybox_image, engine, name):
    yield World(tmp_path, busybox_image, name)
    images.Images(engine).remove(name)


def test_the_shell_completes_them():
    argv = [sys.executable, "-m", "container_stack.cmd.main", "complete"]
    out = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120).stdout
    assert [each for each in COMMANDS if each.split()[0] not in out] == []
    assert "--store-report" in out


def test_what_is_built_runs_as_a_sandbox_would(world):
    (world.context / "word").write_text("hemp\n")
    code, built = world.build("LABEL maintainer=root", "COPY word /word")
    assert (code, built["Name"], built["Findings"]) == (0, world.name, [])
    script = "cat /word; id -u; cat /proc/net/dev | grep -c :; exit 7"
    code, out, err = world.run("run", world.name, "--", "sh", "-c", script)
    assert (code, out.split()[:2], err) == (7, ["hemp", "1234"], "")


def test_an_archive_is_written_that_claims_no_name(world, tmp_path):
    file = tmp_path / "mine.tar"
    _code, built = world.build("LABEL maintainer=root", options=("--output", str(file)))
    assert built["Archive"] == str(file)
    assert world.name.encode() not in file.read_bytes()


def test_a_dockerfile_is_refused_before_anything_is_built(world, engine):
    code, refused = world.build("CMD sh")
    assert (code, refused["ID"]) == (1, None)
    assert [each["line"] for each in refused["Findings"] if each["state"] == "FAILED"] == [2]
    assert images.Images(engine).find(world.name) is None


def test_a_dry_run_builds_nothing(world, engine):
    code, tried = world.build("LABEL maintainer=root", options=("--dry-run",))
    assert (code, tried["ID"]) == (0, None)
    assert images.Images(engine).find(world.name) is None


def test_nodes_are_listed_without_being_asked(world, tmp_path):
    (tmp_path / "nodes.yaml").write_text(
        "nodes:\n- {name: n1, url: 'ssh://swift@192.0.2.1', zone: r1z7}\n"
    )
    code, out, _err = world.run("node", "list", "-f", "json")
    assert code == 0
    assert json.loads(out) == [{"Node": "n1", "Engine": "ssh://swift@192.0.2.1", "Zone": "r1z7"}]


def test_a_node_that_is_down_fails_the_check_and_says_why(world, tmp_path):
    (tmp_path / "nodes.yaml").write_text("nodes:\n- {name: n1, url: 'unix:///no/such/socket'}\n")
    code, out, _err = world.run("node", "check", "-f", "json")
    [found] = json.loads(out)
    assert (code, found["Node"], found["State"]) == (1, "n1", "failure")
    assert "/no/such/socket" in found["Error"]


def test_an_inventory_that_is_missing_is_one_line(world):
    code, out, err = world.run("node", "check")
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert "nodes.yaml" in err


def test_an_archive_that_is_none_is_not_verified_but_reported(world, tmp_path):
    file = tmp_path / "no.tar"
    file.write_bytes(os.urandom(4096))
    code, _out, err = world.run("verify", str(file), "--account", f"AUTH_{uuid.uuid4().hex}")
    # Where storlets aren't installed that is said instead.
    assert code == 1
    assert "Traceback" not in err
