# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks [NAME...]``: run the benchmarks, print each claim, fail on a miss."""

import importlib
import sys

NAMES = (
    "privileged_command",
    "share_ready",
    "one_more_share",
    "many_shares",
    "extend_online",
)


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all, and return the exit code."""
    missed = 0
    for name in names or NAMES:
        for claim in importlib.import_module(f"benchmarks.{name}").run():
            print(claim, flush=True)
            missed += not claim.kept
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
