# SPDX-License-Identifier: Apache-2.0
"""Neutron's mechanism for the tests: no agent, and every port is bound at once as a tap.

Neutron finds mechanisms by entry points, so that what it needs is a distribution.
"""

import contextlib
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

#: Name of the mechanism in neutron.conf.
MECHANISM = "cstest_tap"
#: A port whose name begins so never comes up.
DOWN = "cstest-down"
_HERE = Path(__file__).with_name("ml2")
_GROUP = "neutron.ml2.mechanism_drivers"


def install(directory: Path) -> None:
    """Put the distribution into a directory, which is to be in the path of Neutron's modules."""
    project = tomllib.loads((_HERE / "pyproject.toml").read_text())["project"]
    for module in _HERE.glob("*.py"):
        shutil.copy(module, directory)
    info = directory / f"cstest_ml2-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    points = project["entry-points"][_GROUP].items()
    lines = (f"{name} = {target}\n" for name, target in points)
    (info / "entry_points.txt").write_text(f"[{_GROUP}]\n{''.join(lines)}")


@contextlib.contextmanager
def firewall() -> Iterator[None]:
    """Take what a host with ``accept_forwarding`` inserts out of the firewall again."""
    before = {program: _rules(program) for program in ("iptables", "ip6tables")}
    try:
        yield
    finally:
        for program, known in before.items():
            for rule in _rules(program) - known:
                if "csb+" in rule:
                    words = rule.replace("-A", "-D", 1).split()
                    subprocess.run([program, "--wait", *words], check=True)


def _rules(program: str) -> set[str]:
    argv = [program, "--wait", "-S", "DOCKER-USER"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return set(done.stdout.splitlines())
