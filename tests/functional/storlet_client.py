# SPDX-License-Identifier: Apache-2.0
"""A client of storlets on a node: storlets' own gateway, in a process of its own.

As a program it reads one JSON order from stdin. It sends one request, or many until its stdin
ends, and prints what became of each as a line of JSON.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

STORLET = b'''
import os, time
code = "CODE"

class Which(object):
    """Tell in which image this runs, and copy."""

    def __init__(self, logger):
        self.image = open("/cstest-image").read() if os.path.exists("/cstest-image") else ""

    def __call__(self, in_files, out_files, params):
        metadata = in_files[0].get_metadata()
        metadata["image"], metadata["user"] = self.image, str(os.getuid())
        metadata["code"] = code
        out_files[0].set_metadata(metadata)
        time.sleep(float(params.get("sleep", 0)))
        while True:
            data = in_files[0].read(65536)
            if not data:
                break
            out_files[0].write(data)
        in_files[0].close()
        out_files[0].close()
'''


class Client:
    """Sends requests until it is stopped."""

    def __init__(self, engine: str, order: Mapping[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"DOCKER_HOST": engine},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()

    def first(self) -> Mapping[str, Any]:
        """Return what became of the first request, when it is done."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the gateway's process ended"
        result: Mapping[str, Any] = json.loads(line)
        return result

    def stop(self) -> list[Mapping[str, Any]]:
        """Let the request that runs end, and return what became of all others than the first."""
        out, _ = self._process.communicate(timeout=120)
        return [json.loads(line) for line in out.splitlines()]


def ask(engine: str, order: Mapping[str, Any]) -> Mapping[str, Any]:
    """Send one request and return what became of it."""
    client = Client(engine, {**order, "once": True})
    result = client.first()
    client.stop()
    return result


class _Files:
    def __init__(self, code: str) -> None:
        self._code = code

    def get_storlet(self, _name: str) -> tuple[list[bytes], None]:
        return [STORLET.replace(b"CODE", self._code.encode())], None


def main() -> None:
    order = json.loads(sys.stdin.buffer.raw.readline())  # type: ignore[attr-defined]
    import logging

    from eventlet import patcher
    from storlets.gateway.loader import load_gateway

    logging.basicConfig(level=logging.CRITICAL)
    gateway = load_gateway("docker")(order["conf"], logging.getLogger(), order["scope"])
    # Eventlet's own doesn't see a pipe's end.
    ready = patcher.original("select").select
    while True:
        print(json.dumps(_request(gateway, order)), flush=True)
        if order.get("once") or ready([0], [], [], 0)[0]:
            break


def _request(gateway: Any, order: Mapping[str, Any]) -> Mapping[str, Any]:
    from storlets.gateway.common.stob import StorletData

    begin = time.time()
    module = order.get("module", "cstest_which")
    code = order.get("code", "1")
    data = os.urandom(100_000)
    options = {
        "storlet_main": f"{module}.Which",
        "storlet_language": "python",
        "storlet_content_length": str(len(STORLET) - 4 + len(code)),
        "storlet_x_timestamp": order.get("timestamp", "1"),
        "file_manager": _Files(code),
    }
    params = {"sleep": str(order.get("sleep", 0))}
    try:
        request = gateway.request_class(
            f"{module}.py", params, StorletData({"K": "v"}, data_iter=iter([data])), options
        )
        response = gateway.invocation_flow(request)
        metadata = response.data.user_metadata
        assert b"".join(response.data.data_iter) == data, "other data came back"
    except Exception as exc:
        return {"begin": begin, "end": time.time(), "error": f"{type(exc).__name__}: {exc}"}
    return {"begin": begin, "end": time.time(), "error": None, **metadata}


if __name__ == "__main__":
    main()
