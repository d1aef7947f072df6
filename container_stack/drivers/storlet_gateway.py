# SPDX-License-Identifier: Apache-2.0
"""Storlets' own gateway in a process of its own: it patches the whole of it for eventlet.

``python -m container_stack.drivers.storlet_gateway`` reads commands from stdin and answers each
by one line of JSON on stdout; it ends with its stdin. The first line says what it works with::

    {"conf": {"host_root": "..."}, "scope": "...", "user": {"uid": 1000, "gid": 1000, "groups": []}}
    {"do": "start"}
    {"do": "run", "file": "...", "main": "identity.Identity", "input": "...", ...}

What talks to it is :mod:`container_stack.drivers.storlet_runtime`. What comes out of a sandbox is
never printed nor kept: its size and where it differs from what was expected are all that is told.
"""

import collections
import contextlib
import ctypes
import hashlib
import json
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

CHUNK = 64 * 1024
#: Bytes of address space: a sandbox's answer to the gateway may be endless.
MEMORY = 2 * 1024**3
#: Bytes that come out of a storlet when nobody said what they should be.
OUTPUT = 1024**3
PR_SET_PDEATHSIG = 1
#: What it says of each storlet that it starts: that this didn't run yet.
_COLD = "Failed to get status about storlet daemon"

Json = Mapping[str, Any]


def main() -> None:
    """Answer commands until there are no more."""
    answers = _own_output()
    _bound()
    words = _Words()
    try:
        gateway = _load()
    except Exception as exc:
        _write(answers, {"error": f"storlets' gateway doesn't load: {exc}"})
        return
    order = json.loads(sys.stdin.readline())
    if order["user"] is not None:
        _become(order["user"])
    with contextlib.suppress(OSError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    server = _Server(gateway, order["conf"], order["scope"], words)
    _write(answers, {"ready": True})
    while line := sys.stdin.readline():
        _write(answers, server.answer(json.loads(line)))


def _load() -> Any:
    """Load all that is needed: where it lies, Swift's user may not be allowed to read."""
    import eventlet
    from storlets.gateway.common import stob  # noqa: F401
    from storlets.gateway.loader import load_gateway

    gateway = load_gateway("docker")
    eventlet.sleep(0)  # its hub
    return gateway


def _become(user: Json) -> None:
    os.setgroups(user["groups"])
    os.setresgid(user["gid"], user["gid"], user["gid"])
    os.setresuid(user["uid"], user["uid"], user["uid"])


class _Words(logging.Handler):
    """Keeps the last things that the gateway complained of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.kept: collections.deque[str] = collections.deque(maxlen=16)
        self.logger = logging.getLogger("storlets")
        self.logger.propagate = False
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text.startswith(_COLD):
            return
        if record.exc_info and record.exc_info[1] is not None:
            text = f"{text}: {_explained(record.exc_info[1])}"
        self.kept.append(text[:600])


class _Files:
    """What the middleware has for files of Swift's; here they are in directories."""

    def __init__(self, order: Json) -> None:
        self._paths = {os.path.basename(each): each for each in order["dependencies"]}
        self._storlet = order["file"]

    def get_storlet(self, _name: str) -> tuple[Iterator[bytes], None]:
        return _chunks(self._storlet), None

    def get_dependency(self, name: str) -> tuple[Iterator[bytes], str]:
        path = self._paths[name]
        return _chunks(path), f"{os.stat(path).st_mode & 0o777 | 0o600:o}"

    def put_log(self, name: str, fobj: Any) -> None: ...


class _Server:
    """One scope: an account as the gateway sees it."""

    def __init__(self, load: Any, conf: Json, scope: str, words: _Words) -> None:
        self._gateway = load(dict(conf), words.logger, scope)
        self._words = words

    def answer(self, order: Json) -> Json:
        """Do what is ordered; an error is an answer, too."""
        self._words.kept.clear()
        begin = time.monotonic()
        try:
            done = self._start() if order["do"] == "start" else self._run(order)
        except Exception as exc:
            return {"error": _explained(exc), "said": list(self._words.kept)}
        return {**done, "seconds": time.monotonic() - begin}

    def _start(self) -> Json:
        gateway = self._gateway
        os.makedirs(gateway.paths.host_storlet_base_dir, 0o755, exist_ok=True)
        gateway.sandbox(gateway.scope, gateway.conf, gateway.logger).restart()
        return {}

    def _run(self, order: Json) -> Json:
        from storlets.gateway.common import stob

        name = os.path.basename(order["file"])
        self._gateway.validate_storlet_registration(_registration(order), name)
        data = stob.StorletData(dict(order["metadata"]), data_iter=_chunks(order["input"]))
        request = self._gateway.request_class(
            name, dict(order["parameters"]), data, options=_options(order)
        )
        response = self._gateway.invocation_flow(request)
        return {
            "metadata": response.data.user_metadata,
            **compared(response.data.data_iter, order["output"]),
        }


def _registration(order: Json) -> Json:
    """Return what PUT of the storlet would have carried in X-Object-Meta-Storlet-..."""
    return {
        "Language": order["language"],
        "Interface-Version": "1.0",
        "Object-Metadata": "no",
        "Main": order["main"],
        "Language-Version": order["version"] or "3",
        "Dependency": ",".join(os.path.basename(each) for each in order["dependencies"]),
    }


def _options(order: Json) -> dict[str, Any]:
    """Return what the middleware makes of the storlet's headers."""
    status = os.stat(order["file"])
    return {
        "storlet_main": order["main"],
        "storlet_language": order["language"],
        "storlet_language_version": order["version"],
        "storlet_dependency": ",".join(os.path.basename(each) for each in order["dependencies"]),
        "storlet_content_length": str(status.st_size),
        "storlet_x_timestamp": str(status.st_mtime),
        "file_manager": _Files(order),
        "generate_log": False,
    }


def compared(chunks: Iterator[bytes], expected: str | None) -> Json:
    """Return the output's size and digest, and where it leaves what was expected.

    No more is read than tells so.
    """
    size, digest, differs = 0, hashlib.sha256(), None
    with open(expected or os.devnull, "rb") as file:
        for chunk in chunks:
            digest.update(chunk)
            if expected is not None and (wanted := file.read(len(chunk))) != chunk:
                differs = size + _common(chunk, wanted)
            size += len(chunk)
            if differs is not None or size > OUTPUT:
                break
        else:
            if expected is not None and file.read(1):
                differs = size
    return {"size": size, "sha256": digest.hexdigest(), "differs": differs}


def _common(one: bytes, other: bytes) -> int:
    """Return how many bytes two strings have in common before they differ."""
    return next(
        (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )


def _chunks(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _explained(exc: BaseException) -> str:
    # The SDK's own str() is a line of HTTP; the engine's words are what helps.
    text = getattr(exc, "explanation", None) or str(exc) or type(exc).__name__
    if hasattr(exc, "seconds"):
        text = f"no answer within {exc.seconds:g} s"
    return str(text)[:600]


def _own_output() -> Any:
    """Return the true stdout; whoever else prints does so to stderr from now on."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _write(answers: Any, answer: Json) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _bound() -> None:
    """Take no more than a gateway needs."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


if __name__ == "__main__":
    main()
