# SPDX-License-Identifier: Apache-2.0
"""Another process that attaches a target: a service that shares it, or is killed.

``python brick_service.py IQN PORTAL...`` says "attached", and closes when its input ends.
"""

import sys

from container_stack.host import attach, attach_brick


def main() -> None:
    target = attach.Target(sys.argv[1], tuple(sys.argv[2:]))
    with attach_brick.BrickAttacher.open(attach.Options()).attach(target) as device:
        device.write(0, b"from another")
        print("attached", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
