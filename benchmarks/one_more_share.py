# SPDX-License-Identifier: Apache-2.0
"""One more share on a running server, against the same commands and engine calls run bare.

Bare is: the sparse file, losetup, mkfs and mount by plain subprocesses, and the one run in the
container that a share's rule needs.
"""

import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks import harness, shares

ROUNDS = 9


def run() -> Iterator[harness.Claim]:
    """Measure and yield the claim."""
    with shares.bench() as made:
        server = made.shares.create_server(made.spec(10))
        tree = Path(made.shares.servers.directory(server.id))
        files = Path(made.settings.state_dir)
        numbers = itertools.count()
        plain: list[str] = []

        def floor() -> None:
            name = f"plain-{next(numbers)}"
            image, mount_point = files / f"{name}.img", tree / name
            with image.open("wb") as file:
                file.truncate(shares.SIZE)
            device = _run("losetup", "--find", "--show", str(image)).strip()
            _run("mkfs.xfs", "-q", device)
            mount_point.mkdir()
            _run("mount", "-t", "xfs", device, str(mount_point))
            plain.append(name)
            made.shares.servers.speaking(server, "CIFS").set_share(name, [shares.ALICE])

        def ours() -> None:
            name = f"share-{next(numbers)}"
            made.shares.create(name, server.id, shares.SIZE)
            made.shares.set_rules(name, [shares.ALICE])

        try:
            ours()
            bare, more = harness.medians(ROUNDS, floor, ours)
        finally:
            for name in plain:
                made.shares.servers.speaking(server, "CIFS").remove_share(name)
                device = _run("findmnt", "-no", "SOURCE", str(tree / name)).strip()
                _run("umount", str(tree / name))
                _run("losetup", "--detach", device)
                (tree / name).rmdir()
                (files / f"{name}.img").unlink()
    detail = f"bare {harness.ms(bare)}, ours {harness.ms(more)}"
    yield harness.Claim("one more share / its bare steps", more / bare, 3.0, True, detail)


def _run(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout
