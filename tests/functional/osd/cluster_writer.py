# SPDX-License-Identifier: Apache-2.0
"""``cluster_writer.py NAME DIRECTORY``: writes lines to DIRECTORY/log until it is killed.

Each line is on the disk before it is acknowledged on standard output.
"""

import os
import sys
import time


def main() -> None:
    name, directory = sys.argv[1:]
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_SYNC
    log = os.open(f"{directory}/log", flags, 0o644)
    number = 0
    while True:
        number += 1
        line = f"{name} {number} {time.clock_gettime(time.CLOCK_BOOTTIME):.6f}\n".encode()
        os.write(log, line)
        os.write(1, line)
        time.sleep(0.01)


main()
