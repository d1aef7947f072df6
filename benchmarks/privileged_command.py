# SPDX-License-Identifier: Apache-2.0
"""A privileged command through our executor, against the bare command and against sudo.

The command is ``losetup --set-capacity`` on a loop device of our own: short, harmless, and the
same for all three.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import harness
from container_stack.rootwrap import commands
from container_stack.testing import privilege


def run() -> Iterator[harness.Claim]:
    """Measure and yield the claims."""
    with tempfile.TemporaryDirectory(prefix="cstest-bench-") as directory:
        state_dir = Path(directory) / "state"
        executor = privilege.make_executor(state_dir)
        image = state_dir / "volumes" / "bench.img"
        image.parent.mkdir()
        with image.open("wb") as file:
            file.truncate(1 << 20)
        device = executor.run(commands.loop.ATTACH, file=str(image)).strip()
        argv = commands.loop.RESIZE.argv(device=device)
        config = str(state_dir.with_name("state.rootwrap") / "rootwrap.conf")
        program = "from container_stack.rootwrap.cmd import rootwrap; rootwrap()"
        spawned = ["sudo", "-n", sys.executable, "-c", program, config, *argv]
        try:
            bare, ours, sudo = harness.medians(
                60,
                lambda: subprocess.run(argv, check=True, capture_output=True),
                lambda: executor.run(commands.loop.RESIZE, device=device),
                lambda: subprocess.run(spawned, check=True, capture_output=True),
            )
        finally:
            executor.run(commands.loop.DETACH, device=device)
            executor.close()
    detail = f"bare {harness.ms(bare)}, ours {harness.ms(ours)}, sudo rootwrap {harness.ms(sudo)}"
    yield harness.Claim("privileged command / bare command", ours / bare, 2.5, True, detail)
    yield harness.Claim("sudo rootwrap / privileged command", sudo / ours, 20, False, detail)
