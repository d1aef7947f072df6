# SPDX-License-Identifier: Apache-2.0
"""Neutron's mechanism for the tests: no agent, and every port is bound at once as a tap.

Neutron finds mechanisms by entry points, so that what it needs is a distribution.
"""

import shutil
from pathlib import Path

#: Name of the mechanism in neutron.conf.
MECHANISM = "cstest_tap"
_HERE = Path(__file__).with_name("ml2")
_NAME = "cstest_ml2"


def install(directory: Path) -> None:
    """Put the distribution into a directory, which is to be in the path of Neutron's modules."""
    shutil.copytree(_HERE / _NAME, directory / _NAME, ignore=shutil.ignore_patterns("__pycache__"))
    info = directory / f"{_NAME}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {_NAME}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        f"[neutron.ml2.mechanism_drivers]\n{MECHANISM} = {_NAME}:TapMechanism\n"
    )
