# SPDX-License-Identifier: Apache-2.0
"""A program that switches an image on a node and dies as soon as a certain step is done.

``python storlet_kill.py STEP``; what to do comes by stdin.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

from container_stack.host import containers, images
from container_stack.storlets import gateway, model
from container_stack.storlets.node import engine_node, helper

#: In their order; each is a method, and a part of its arguments.
STEPS: Mapping[str, tuple[type, str, str]] = {
    "helper": (containers.Engine, "run", "-helper"),
    "prepare": (helper.Helper, "ask", "prepare"),
    "sandbox": (containers.Engine, "run", "-next"),
    "probe": (helper.Helper, "ask", "probe"),
    "warm": (helper.Helper, "ask", "warm"),
    "tag": (images.Images, "tag", ":latest"),
    "exchange": (helper.Helper, "ask", "exchange"),
    "rename-old": (containers.Engine, "rename", "-old-"),
    "rename-new": (containers.Engine, "rename", "_"),
    "halt": (helper.Helper, "ask", "halt"),
    "stop": (containers.Engine, "stop", ""),
    "discard": (helper.Helper, "ask", "discard"),
}


def after(
    step: str, act: Callable[[], object], replace: Callable[[type, str, object], None] = setattr
) -> None:
    """Do something as soon as a step is done for the first time."""
    kind, name, part = STEPS[step]
    real, done = getattr(kind, name), []

    def method(mine: Any, *args: Any, **options: Any) -> Any:
        result = real(mine, *args, **options)
        if not done and any(part in _text(each) for each in args):
            done.append(True)
            act()
        return result

    replace(kind, name, method)


def _text(argument: object) -> str:
    return argument.name if isinstance(argument, containers.ContainerSpec) else str(argument)


def main() -> None:
    order = json.load(sys.stdin)
    after(sys.argv[1], lambda: os.kill(os.getpid(), signal.SIGKILL))
    node = engine_node.EngineNode(
        "one",
        containers.Engine(order["url"]),
        gateway.Gateway.of(order["options"]),
        base=order["base"],
    )
    node.switch(model.Account(order["account"]), order["image"])
    raise SystemExit(f"there was no {sys.argv[1]}")


if __name__ == "__main__":
    main()
