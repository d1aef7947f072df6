# SPDX-License-Identifier: Apache-2.0
"""The examples in the documentation: they run, and do what they say."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_stack.cmd.demo import host, smb
from container_stack.host import containers, filesystem, images
from container_stack.rootwrap import config, executor
from container_stack.shares import image

EXAMPLES = Path(__file__).parents[2] / "examples"
#: Services of OpenStack that an example must do without.
SERVICES = ("manila", "nova", "glance_store", "swift")


@pytest.fixture
def without_services(tmp_path: Path) -> dict[str, str]:
    """An environment in which no service of OpenStack can be imported."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    for name in SERVICES:
        text = f"raise ModuleNotFoundError('No module named {name!r}', name={name!r})\n"
        (hidden / f"{name}.py").write_text(text, encoding="utf-8")
    return {**os.environ, "PYTHONPATH": str(hidden)}


class Service:
    """examples/share_service.py on a state directory of the test's own."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.state_dir = directory / "state"
        self.state_dir.mkdir()
        etc = directory / "etc"
        config.install(etc, ["manila"], str(self.state_dir))
        daemon = [sys.executable, "-m", "container_stack.rootwrap.cmd", f"{etc}/rootwrap.conf"]
        self.helper = shlex.join(daemon if os.geteuid() == 0 else ["sudo", "-n", *daemon])
        self._environment = environment

    def run(self, *words: str) -> str:
        where = ("--state-dir", str(self.state_dir), "--root-helper", self.helper)
        return self._python(str(EXAMPLES / "share_service.py"), *where, *words)

    def listed(self, *words: str) -> object:
        where = ("--state-dir", str(self.state_dir), "--root-helper", self.helper)
        program = ("-m", "container_stack.cmd.main")
        text = self._python(*program, *words, *where, "--owner", "share-service", "-f", "json")
        return json.loads(text)

    def _python(self, *words: str) -> str:
        ended = subprocess.run(
            [sys.executable, *words],
            capture_output=True,
            text=True,
            timeout=120,
            env=self._environment,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout


@pytest.fixture
def service(
    tmp_path: Path, engine: containers.Engine, without_services: dict[str, str]
) -> Iterator[Service]:
    if images.Images(engine).find(image.REFERENCE) is None:
        image.build(images.Images(engine))
    made = Service(tmp_path, without_services)
    yield made
    made.run("remove", "docs")
    runner = executor.Executor(made.helper, state_dir=str(made.state_dir))
    filesystem.Filesystems(runner).unshare_tree(str(made.state_dir / "mounts"))
    runner.close()


def test_an_own_service_serves_a_share_without_any_service_of_openstack(
    service: Service, engine: containers.Engine
) -> None:
    subnet = str(host.free_subnet(engine))
    served = service.run("serve", "docs", "alice", subnet)
    location, user, key = served.split()
    with smb.Client(location, user, key) as client:
        client.write("letter", b"Dear Bob")
    assert smb.refused(location, "bob", key)

    assert service.run("serve", "docs", "alice", subnet) == served
    with smb.Client(location, user, key) as client:
        assert client.read("letter") == b"Dear Bob"

    address = location.split("\\")[2]
    assert service.listed("share", "list") == [
        {"ID": "docs", "Server": "docs", "Size": 1024**3, "Export location": location}
    ]
    servers = service.listed("share", "server", "list")
    assert isinstance(servers, list)
    assert [(each["ID"], each["State"], each["Address"]) for each in servers] == [
        ("docs", "active", address)
    ]
    shown = service.listed("share", "server", "show", "docs")
    assert isinstance(shown, dict)
    assert (shown["subnet"], shown["shares"]) == (subnet, ["docs"])

    service.run("remove", "docs")
    service.run("remove", "docs")
    left = host.leftovers(engine, "share-service", str(service.state_dir), subnet)
    assert [each for each in left if not each.startswith("mount ")] == []


@pytest.fixture
def installed_backend(tmp_path: Path) -> dict[str, str]:
    """An environment in which examples/storage_backend is installed as pip installs it."""
    source, target = tmp_path / "source", tmp_path / "target"
    shutil.copytree(EXAMPLES / "storage_backend", source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    pip += ["--no-build-isolation", "--target", str(target), str(source)]
    subprocess.run(pip, check=True, capture_output=True, timeout=300)
    return {**os.environ, "PYTHONPATH": str(target)}


def test_a_third_partys_backend_is_found_by_its_name_and_passes_the_public_suite(
    installed_backend: dict[str, str], tmp_path: Path
) -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "container_stack.cmd.main", "driver", "list", "-f", "json"],
        capture_output=True,
        text=True,
        check=True,
        env=installed_backend,
    )
    mine = [each for each in json.loads(listed.stdout) if each["Name"] == "reserved"]
    assert [(each["Kind"], each["State"]) for each in mine] == [("storage", "ok")]
    suite = tmp_path / "source" / "test_reserved_storage.py"
    options = ["-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'base'}"]
    options.append(f"--rootdir={suite.parent}")
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *options, f"{suite}::TestReserved"],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=suite.parent,
        env=installed_backend,
    )
    assert ended.returncode == 0, ended.stdout
    assert " passed" in ended.stdout
