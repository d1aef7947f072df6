# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: T201
"""Write the files below etc/container-stack that come from code, or check that they are current.

``python tools/generate.py [--check]``, with the package installed.
"""

import io
import sys
from importlib import metadata
from pathlib import Path

from oslo_config import cfg, generator

from container_stack.rootwrap import commands, config

ETC = Path(__file__).parents[1] / "etc" / "container-stack"


def sample() -> str:
    """Return the text of container-stack.conf.sample: every option with its help."""
    points = metadata.entry_points(group="oslo.config.opts")
    names = sorted(point.name for point in points if point.name.startswith("container_stack."))
    conf = cfg.ConfigOpts()
    generator.register_cli_opts(conf)
    conf([f"--namespace={name}" for name in names], project="container-stack")
    text = io.StringIO()
    generator.generate(conf, output_file=text)
    return text.getvalue()


def main() -> int:
    """Return how many files had another text, if only asked; else write those and return 0."""
    check = sys.argv[1:] == ["--check"]
    texts = {
        **config.texts("/etc/container-stack", sorted(commands.DRIVERS)),
        "container-stack.conf.sample": sample(),
    }
    stale = [
        ETC / name
        for name, text in texts.items()
        if not (ETC / name).exists() or (ETC / name).read_text(encoding="utf-8") != text
    ]
    for path in stale:
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(texts[str(path.relative_to(ETC))], encoding="utf-8")
        print("stale:" if check else "written:", path)
    return len(stale) if check else 0


if __name__ == "__main__":
    sys.exit(main())
