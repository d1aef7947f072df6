# SPDX-License-Identifier: Apache-2.0
"""Configurations of images: as the engine reads them, or not at all."""

import json
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies

from container_stack import exceptions
from container_stack.host.image_archive import image_config
from container_stack.testing import image_archives

LAYER = image_archives.layer({"file": b"x"})

#: As an engine of 20.10 writes it.
WRITTEN: dict[str, Any] = {
    "architecture": "amd64",
    "config": {
        "Hostname": "",
        "User": "",
        "AttachStdin": False,
        "ExposedPorts": {"80/tcp": {}},
        "Env": ["PATH=/bin"],
        "Cmd": ["/bin/sh", "-c", "x"],
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 30000000000, "Retries": 3},
        "ArgsEscaped": True,
        "Image": "sha256:0",
        "Volumes": {"/data": {}},
        "WorkingDir": "/",
        "Entrypoint": None,
        "OnBuild": None,
        "Labels": {"a": "1", "A": "2"},
        "StopSignal": "SIGHUP",
        "StopTimeout": 3,
    },
    "container": "c0ffee",
    "container_config": {"Cmd": ["/bin/sh"]},
    "created": "2026-01-02T03:04:05.123456789+01:00",
    "docker_version": "20.10.24+dfsg1",
    "history": [
        {"created": "2026-01-02T03:04:05Z", "created_by": "a"},
        {"created_by": "b", "empty_layer": True},
    ],
    "os": "linux",
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64]},
    "moby.buildkit.cache.v0": "something newer",
}


def changed(path: str, value: Any) -> bytes:
    """Return a configuration in which one value is another."""
    made = json.loads(json.dumps(WRITTEN))
    *way, last = path.split("/")
    place = made
    for key in way:
        place = place[int(key) if isinstance(place, list) else key]
    place[last] = value
    return json.dumps(made).encode()


def refusal(data: bytes) -> str:
    with pytest.raises(exceptions.InvalidRequest) as info:
        image_config.read(data)
    assert len(str(info.value)) < 500
    assert str(info.value).isprintable()
    return str(info.value)


def test_what_an_engine_writes_is_read() -> None:
    assert image_config.read(json.dumps(WRITTEN).encode()) == WRITTEN


def test_what_the_tests_build_is_read() -> None:
    made = image_archives.configuration([LAYER])
    assert image_config.read(image_archives.encode(made)) == made


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("config", None),
        ("config", []),
        ("config/Cmd", "a string"),
        ("config/Cmd", ["a", 5]),
        ("config/Cmd", ["a", None]),
        ("config/Env", {"PATH": "/bin"}),
        ("config/User", 0),
        ("config/Tty", "yes"),
        ("config/StopTimeout", 1.5),
        ("config/StopTimeout", 2**63),
        ("config/StopTimeout", True),
        ("config/Labels", {"a": 1}),
        ("config/Volumes", ["/data"]),
        ("config/Volumes", {"/data": 5}),
        ("config/Healthcheck", {"Test": "true"}),
        ("created", 5),
        ("created", "yesterday"),
        ("created", "2026-02-30T00:00:00Z"),
        ("created", "2026-01-02T03:04:60Z"),
        ("created", "2026-01-02T03:04:05"),
        ("history", {}),
        ("history", [None]),
        ("history/0/created", "never"),
        ("history/1/empty_layer", False),
        ("os", "windows"),
        ("os", None),
        ("os", ["linux"]),
        ("rootfs", None),
        ("rootfs/type", "other"),
        ("rootfs/diff_ids", []),
        ("rootfs/diff_ids", None),
        ("rootfs/diff_ids", "sha256:" + "0" * 64),
        ("rootfs/diff_ids", [None]),
        ("rootfs/diff_ids", ["sha256:" + "0" * 63]),
        ("rootfs/diff_ids", ["sha256:" + "A" * 64]),
        ("rootfs/diff_ids", ["sha256:" + "0" * 64 + "\n"]),
        ("rootfs/diff_ids", ["sha512:" + "0" * 128]),
        ("architecture", {}),
    ],
)
def test_what_the_engine_would_refuse_is_refused(path: str, value: Any) -> None:
    refusal(changed(path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("CONFIG", {"Cmd": ["other"]}),
        ("Config", {"Cmd": ["other"]}),
        ("rootFS", {}),
        ("o\u017f", "windows"),
        ("config/CMD", ["other"]),
        ("config/entrypoint", ["other"]),
        ("config/wor\u212aingDir", "/tmp"),
        ("history/0/Empty_Layer", True),
        ("config/Healthcheck/test", ["other"]),
    ],
)
def test_key_that_only_the_engine_would_understand_is_refused(path: str, value: Any) -> None:
    assert "malformed" in refusal(changed(path, value))


def test_key_that_is_there_twice_is_refused() -> None:
    data = json.dumps(WRITTEN).encode()
    assert "twice" in refusal(data.replace(b'"os":', b'"os": "linux", "os":'))
    assert "twice" in refusal(data.replace(b'"Cmd":', b'"Cmd": ["a"], "Cmd":', 1))
    assert "twice" in refusal(data.replace(b'"a":', b'"a": "0", "a":', 1))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"5",
        b'"linux"',
        b"\xff\xfe{\0}\0",
        b"\xef\xbb\xbf{}",
        b'{"a": "\xff"}',
        b'{"a": "\\ud800"}',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": ' + b"9" * 100_000 + b"}",
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b"[" * 500_000,
        json.dumps(WRITTEN).encode() + b"{}",
        json.dumps(WRITTEN).encode()[:-1],
    ],
)
def test_what_is_no_configuration_is_refused(data: bytes) -> None:
    refusal(data)


VALUES = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.text(),
    lambda inner: strategies.lists(inner) | strategies.dictionaries(strategies.text(), inner),
    max_leaves=5,
)
PLACES = [
    *WRITTEN,
    *(f"config/{key}" for key in WRITTEN["config"]),
    *("history/0/created", "rootfs/type", "rootfs/diff_ids"),
]


@hypothesis.given(strategies.sampled_from(PLACES), VALUES)
@hypothesis.settings(deadline=None)
def test_any_value_anywhere_is_read_or_refused(path: str, value: Any) -> None:
    try:
        found = image_config.read(changed(path, value))
    except exceptions.InvalidRequest:
        return
    assert found == json.loads(changed(path, value))
