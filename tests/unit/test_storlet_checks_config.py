# SPDX-License-Identifier: Apache-2.0
"""Checks 3, 4 and 11, and what findings repeat."""

from typing import Any

import pytest

from container_stack.storlets import model
from container_stack.storlets.verification import base, checks, checks_config, report

PASSED, FAILED = report.State.PASSED, report.State.FAILED
BASE = base.Base("sha256:0", ("sha256:1", "sha256:2"), {"Env": ["PATH=/bin"]}, "arm64")
STARTING = base.Base(
    "sha256:0",
    ("sha256:1",),
    {"Entrypoint": ["/start", "me"], "Cmd": ["now"], "Healthcheck": {"Test": ["CMD", "true"]}},
    "arm64",
)
ARM = {"os": "linux", "architecture": "arm64"}
LIMITS = model.Limits(memory=64 * 1024**2, cpu_quota=50_000, pids=16)


@pytest.mark.parametrize(
    ("layers", "detail"),
    [
        (["sha256:1", "sha256:2"], "0 layers over"),
        (["sha256:1", "sha256:2", "sha256:3", "sha256:1"], "2 layers over"),
    ],
)
def test_image_over_the_base_passes(layers: list[str], detail: str) -> None:
    found = checks_config.base(ARM, layers, BASE)
    assert found.state is PASSED
    assert found.detail.startswith(detail)


@pytest.mark.parametrize(
    ("layers", "shared"),
    [
        ([], 0),
        (["sha256:1"], 1),
        (["sha256:2", "sha256:1"], 0),
        (["sha256:1", "sha256:3", "sha256:2"], 1),
        (["sha256:3", "sha256:1", "sha256:2"], 0),
    ],
)
def test_image_over_something_else_is_refused(layers: list[str], shared: int) -> None:
    found = checks_config.base(ARM, layers, BASE)
    assert found.state is FAILED
    assert f"shares {shared} of the 2 layers" in found.detail


@pytest.mark.parametrize(
    "machine", [{"os": "linux", "architecture": "amd64"}, {"os": "windows"}, {}]
)
def test_image_for_another_machine_is_refused(machine: dict[str, str]) -> None:
    found = checks_config.base(machine, BASE.layers, BASE)
    assert found.state is FAILED
    assert "linux, arm64" in found.detail


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"Entrypoint": None, "Cmd": []},
        {"User": "1000", "StopSignal": "SIGKILL", "ExposedPorts": {"80/tcp": {}}},
        {"Volumes": {"/data": {}, "/mnt/channel": {}, "/usr/local/libexec": {}}},
        {"OnBuild": None, "Healthcheck": None, "Volumes": None},
    ],
)
def test_what_makes_no_difference_passes(config: dict[str, Any]) -> None:
    assert checks_config.command(config, BASE).state is PASSED


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"Entrypoint": ["/bin/sh"]}, "ENTRYPOINT"),
        ({"Cmd": ["/bin/sh"]}, "CMD"),
        ({"OnBuild": ["RUN true"]}, "ONBUILD"),
        ({"Healthcheck": {"Test": ["CMD", "true"]}}, "HEALTHCHECK"),
        ({"Volumes": {"/mnt/channels": {}}}, "VOLUME"),
        ({"Volumes": {"/mnt/channels/deep": {}}}, "VOLUME"),
        ({"Volumes": {"/mnt": {}}}, "VOLUME"),
        ({"Volumes": {"/": {}}}, "VOLUME"),
        ({"Volumes": {"//srv/../usr/./local/lib/storlets/": {}}}, "VOLUME"),
        ({"Volumes": {"dev": {}}}, "VOLUME"),
    ],
)
def test_what_stands_against_the_gateway_is_refused(config: dict[str, Any], line: str) -> None:
    found = checks_config.command(config, BASE)
    assert found.state is FAILED
    assert found.cure.startswith(f"Remove {line} from")


def test_all_that_is_wrong_is_told_at_once() -> None:
    found = checks_config.command({"Cmd": ["a"], "Entrypoint": ["b"], "OnBuild": ["c"]}, BASE)
    assert "ENTRYPOINT, CMD, ONBUILD" in found.cure


def test_image_must_start_as_its_base_does() -> None:
    assert checks_config.command(STARTING.config, STARTING).state is PASSED
    for key in ("Entrypoint", "Cmd"):
        found = checks_config.command({**STARTING.config, key: None}, STARTING)
        assert found.state is FAILED
        assert "is removed" in found.detail


def test_limits_that_are_set_pass() -> None:
    found = checks_config.limits(LIMITS)
    assert found.state is PASSED
    assert "67108864 bytes, CPU 50000 of 100000" in found.detail


@pytest.mark.parametrize(
    ("limits", "names"),
    [
        (model.Limits(), ["container_mem_limit", "container_cpu_quota", "container_pids_limit"]),
        (model.Limits(memory=2**28, cpu_quota=50_000), ["container_pids_limit"]),
        (model.Limits(memory=2**28, pids=16), ["container_cpu_quota"]),
        (model.Limits(memory=0, cpu_quota=50_000, pids=16), ["container_mem_limit"]),
    ],
)
def test_missing_limits_are_named(limits: model.Limits, names: list[str]) -> None:
    found = checks_config.limits(limits)
    assert found.state is FAILED
    assert ", ".join(names) + ":" in found.detail


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (model.Limits(memory=32 * 1024**2, cpu_quota=1000, pids=4), ""),
        (model.Limits(memory=32 * 1024**2 - 1, cpu_quota=1000, pids=4), "33554432 is needed"),
        (model.Limits(memory=32 * 1024**2, cpu_quota=1000, pids=3), "4 is needed"),
    ],
)
def test_limits_below_what_python_needs_are_refused(limits: model.Limits, text: str) -> None:
    found = checks_config.limits(limits)
    assert found.state is (FAILED if text else PASSED)
    assert text in found.detail


def test_strangers_words_are_short_and_printable() -> None:
    assert checks.quoted(["a", "b\n\x1b[0m", "ü", "'"]) == r"a, b\n\x1b[0m, \xfc, '"
    assert len(checks.quoted(["x" * 10_000])) < 300
