# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: T201
"""Write the files below etc that come from code, or check that they are current.

``python tools/generate.py [--check]``, with the package installed.
"""

import sys
from pathlib import Path

from container_stack.cmd import config as cmd_config
from container_stack.rootwrap import commands, config

ETC = Path(__file__).parents[1] / "etc"
OURS = ETC / "container-stack"


def main() -> int:
    """Return how many files have another text, if only asked; else write those and return 0."""
    check = sys.argv[1:] == ["--check"]
    texts = config.texts("/etc/container-stack", sorted(commands.DRIVERS))
    files = {OURS / name: text for name, text in texts.items()}
    files[OURS / "container-stack.conf.sample"] = cmd_config.sample()
    files[ETC / "glance" / "rootwrap.d" / config.IMAGES] = commands.filters("glance")
    stale = 0
    for path, text in files.items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale += 1
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        print("stale:" if check else "written:", path)
    return stale if check else 0


if __name__ == "__main__":
    sys.exit(main())
