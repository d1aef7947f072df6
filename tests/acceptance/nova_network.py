# SPDX-License-Identifier: Apache-2.0
"""Neutron's mechanism for the tests: no agent, and every port is bound at once as a tap.

Neutron finds mechanisms by entry points, so that what it needs is a distribution.
"""

import shutil
import tomllib
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
