# SPDX-License-Identifier: Apache-2.0
"""Nova finds the driver however this package is installed; without Nova the rest works."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SEARCH = """
import sys
from nova.virt import driver
from nova import conf
found = driver.load_compute_driver(None, "container_stack.DockerDriver")
print(type(found).__module__, sys.modules["nova.virt.container_stack"].__file__)
"""
# The tests' own installation has the shim, and a split one hasn't.
NO_SHIM = """
import importlib.abc, sys
class NoShim(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "nova.virt.container_stack":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, NoShim())
"""
ALIASED = "from container_stack.cmd import nova_compute; nova_compute.alias()"
HIDDEN = """
import importlib.abc, sys
class NoNova(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "nova":
            raise ModuleNotFoundError("No module named 'nova'", name="nova")
sys.meta_path.insert(0, NoNova())
from container_stack.cmd import main
from container_stack.servers import assembly
from container_stack.conf import nova
main.main(["driver", "list", "-f", "value"])
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with this package alone, as installed from a wheel."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    tar = ["tar", "-C", str(ROOT), "--exclude=./.*", "--exclude=./build", "-c", "."]
    with subprocess.Popen(tar, stdout=subprocess.PIPE) as packed:
        unpack = ["tar", "-C", str(source), "-x", "--no-same-owner"]
        subprocess.run(unpack, check=True, stdin=packed.stdout)
    offline = ["--no-deps", "--no-index", "--no-build-isolation", "--root-user-action=ignore"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", *offline]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True)
    return target


def test_a_wheel_has_the_shim_and_nothing_else_of_nova(installed: Path) -> None:
    files = {str(each.relative_to(installed)) for each in (installed / "nova").rglob("*.py")}
    assert files == {"nova/virt/container_stack/__init__.py"}


def test_an_editable_or_common_installation_is_found() -> None:
    assert "container_stack.drivers.nova.driver" in _python(SEARCH)


def test_a_wheel_beside_nova_is_found(installed: Path, tmp_path: Path) -> None:
    # Nova's own directory with ours in it, as in one site-packages.
    import nova

    common = tmp_path / "common"
    (common / "nova").mkdir(parents=True)
    for each in Path(nova.__path__[0]).iterdir():
        if each.name != "virt":
            (common / "nova" / each.name).symlink_to(each)
    virt = common / "nova" / "virt"
    virt.mkdir()
    for each in (Path(nova.__path__[0]) / "virt").iterdir():
        if each.name != "container_stack":
            (virt / each.name).symlink_to(each)
    (virt / "container_stack").symlink_to(installed / "nova" / "virt" / "container_stack")
    (common / "container_stack").symlink_to(installed / "container_stack")
    assert str(common) in _python(SEARCH, common)


def test_a_split_installation_is_found_by_its_own_nova_compute(installed: Path) -> None:
    apart = installed.parent / "apart"
    apart.mkdir(exist_ok=True)
    link = apart / "container_stack"
    if not link.exists():
        link.symlink_to(installed / "container_stack")
    told = _python(f"{NO_SHIM}\n{ALIASED}\n{SEARCH}", apart)
    assert f"container_stack.drivers.nova.driver {apart}" in told


def test_without_nova_the_rest_works(installed: Path) -> None:
    assert "manila" in _python(HIDDEN, installed)


def _python(program: str, path: Path | None = None) -> str:
    """Return what a program prints, in a process that finds modules in ``path`` first."""
    environment = {**os.environ, "OS_NOVA_DISABLE_EVENTLET_PATCHING": "1"}
    environment.pop("PYTHONPATH", None)
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
