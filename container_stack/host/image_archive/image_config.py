# SPDX-License-Identifier: Apache-2.0
"""The configuration of an image that a stranger made.

The engine's JSON reader (Go's) takes "CMD" for "Cmd", and the last of keys that are twice there:
whoever reads it otherwise checks another image than the one that runs. A configuration is accepted
only if both read the same, and if the engine finds what it expects in it.
"""

import datetime
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from container_stack import exceptions

#: What an object's value must be; raises what is wrong with it.
Check = Callable[[Any, str], None]

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)


def parse(data: bytes, what: str) -> Any:
    """Return what JSON of a stranger's says.

    :raises InvalidRequest: it is none, nested too deeply, or readers don't agree about it.
    """
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_constant
        )
        # A lone surrogate can be read, and then not be written anywhere.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as exc:
        reason = "it is nested too deeply" if isinstance(exc, RecursionError) else exc
        raise exceptions.InvalidRequest(f"{what} is no JSON that can be used: {reason}.") from exc
    return value


def read(data: bytes) -> dict[str, Any]:
    """Return an image's configuration, which the engine would take and read alike.

    :raises InvalidRequest: it wouldn't, or it isn't for Linux.
    """
    value = parse(data, "The image's configuration")
    if not isinstance(value, dict):
        raise _malformed("")
    _IMAGE(value, "")
    if value.get("os") != "linux":
        raise exceptions.InvalidRequest(f"The image is for {value.get('os')!a}, not for 'linux'.")
    for key in ("config", "rootfs"):
        if value.get(key) is None:
            raise _malformed(key)
    rootfs = value["rootfs"]
    if rootfs.get("type") != "layers" or not rootfs.get("diff_ids"):
        raise exceptions.InvalidRequest("The image has no layers.")
    filled = [each for each in value.get("history") or () if not each.get("empty_layer")]
    if len(filled) > len(rootfs["diff_ids"]):
        raise exceptions.InvalidRequest("The image's history has more layers than the image.")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _malformed(where: str) -> exceptions.InvalidRequest:
    return exceptions.InvalidRequest(
        f"The image's configuration can't be used: {where or 'all of it'} is malformed."
    )


def _is(test: Callable[[Any], bool]) -> Check:
    """Return a check for null, which is the same as nothing, or what passes a test."""

    def check(value: Any, where: str) -> None:
        if value is not None and not test(value):
            raise _malformed(where)

    return check


def _has(fields: Mapping[str, Check]) -> Check:
    """Return a check for an object; keys that nobody knows are ignored, as the engine does it."""
    folded = {key.casefold() for key in fields}

    def check(value: Any, where: str) -> None:
        if value is None:
            return
        if not isinstance(value, dict):
            raise _malformed(where)
        for key, each in value.items():
            path = f"{where}.{key[:80]}" if where else key[:80]
            if key in fields:
                fields[key](each, path)
            elif key.casefold() in folded:
                raise _malformed(ascii(path))

    return check


def _each(inner: Check) -> Check:
    def check(value: Any, where: str) -> None:
        if value is not None and not isinstance(value, list):
            raise _malformed(where)
        for each in value or ():
            if each is None:
                raise _malformed(where)
            inner(each, where)

    return check


def _map(test: Callable[[Any], bool]) -> Check:
    return _is(lambda value: isinstance(value, dict) and all(map(test, value.values())))


def _is_time(value: Any) -> bool:
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return False
    try:
        datetime.datetime.fromisoformat(match[1] + match[2])
    except ValueError:
        return False
    return True


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and bool(_DIGEST.fullmatch(value))


_TEXT = _is(lambda value: isinstance(value, str))
_TEXTS = _each(_TEXT)
_FLAG = _is(lambda value: isinstance(value, bool))
_NUMBER = _is(lambda value: type(value) is int and -(2**63) <= value < 2**63)
_SET = _map(lambda value: value == {})
_LABELS = _map(lambda value: isinstance(value, str))

#: https://github.com/moby/moby/blob/v20.10.24/api/types/container/config.go
_CONTAINER = _has(
    dict.fromkeys(["Hostname", "Domainname", "User", "Image", "WorkingDir", "MacAddress"], _TEXT)
    | dict.fromkeys(["AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin"], _FLAG)
    | dict.fromkeys(["StdinOnce", "ArgsEscaped", "NetworkDisabled"], _FLAG)
    | dict.fromkeys(["Env", "Cmd", "Entrypoint", "OnBuild", "Shell"], _TEXTS)
    | {
        "ExposedPorts": _SET,
        "Volumes": _SET,
        "Labels": _LABELS,
        "StopSignal": _TEXT,
        "StopTimeout": _NUMBER,
        "Healthcheck": _has(
            {"Test": _TEXTS}
            | dict.fromkeys(["Interval", "Timeout", "StartPeriod", "StartInterval"], _NUMBER)
            | {"Retries": _NUMBER}
        ),
    }
)

#: https://github.com/moby/moby/blob/v20.10.24/image/image.go
_IMAGE = _has(
    dict.fromkeys(["id", "parent", "comment", "container", "docker_version", "author"], _TEXT)
    | dict.fromkeys(["architecture", "variant", "os", "os.version"], _TEXT)
    | {
        "created": _is(_is_time),
        "Size": _NUMBER,
        "os.features": _TEXTS,
        "config": _CONTAINER,
        "container_config": _CONTAINER,
        "rootfs": _has({"type": _TEXT, "diff_ids": _each(_is(_is_digest))}),
        "history": _each(
            _has(
                dict.fromkeys(["author", "created_by", "comment"], _TEXT)
                | {"created": _is(_is_time), "empty_layer": _FLAG}
            )
        ),
    }
)
