# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks [--smoke] [NAME...]``: run the benchmarks and print each claim.

A missed claim is an error, except with ``--smoke``, which asks only whether they run: a busy
machine is no reason to fail a build.
"""

import importlib
import sys

from benchmarks import harness

NAMES = (
    "privileged_command",
    "share_ready",
    "many_shares",
    "shares_scale",
    "extend_online",
    "image_transfer",
    "storlets_verify",
    "storlets_nodes",
    "storlets_many",
    "osd_volumes",
    "osd_many",
    "nova_scale",
)


def main(words: list[str]) -> int:
    """Run the named benchmarks, or all, and return the exit code."""
    names = [word for word in words if word != "--smoke"]
    harness.smoke = "--smoke" in words
    missed = 0
    for name in names or NAMES:
        for claim in importlib.import_module(f"benchmarks.{name}").run():
            print(claim, flush=True)
            missed += not claim.kept
    return 1 if missed and not harness.smoke else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
