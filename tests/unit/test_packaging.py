# SPDX-License-Identifier: Apache-2.0
"""What setup.cfg says, against what is there."""

import configparser
import os
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_file_below_etc_is_installed():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    listed = [line for value in setup["options.data_files"].values() for line in value.split()]
    there = [
        os.path.relpath(os.path.join(directory, name), ROOT)
        for directory, _directories, names in os.walk(ROOT / "etc")
        for name in names
    ]
    assert sorted(listed) == sorted(there)
