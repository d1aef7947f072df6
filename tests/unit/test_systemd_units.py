# SPDX-License-Identifier: Apache-2.0
"""The units for systemd: what systemd's own tool says of them, and what ours can't do without."""

import configparser
import re
import subprocess
from pathlib import Path

UNITS = Path(__file__).parents[2] / "etc" / "systemd"
#: Settings that give a service a mount namespace of its own: systemd.exec(5).
OWN_MOUNTS = ("PrivateMounts", "PrivateTmp", "PrivateDevices", "ProtectSystem", "ProtectHome")


def read(name: str) -> configparser.RawConfigParser:
    unit = configparser.RawConfigParser(strict=False)
    unit.read(UNITS / name)
    return unit


def test_systemd_finds_nothing_wrong_with_them(tmp_path: Path) -> None:
    """They are verified together, as each names others, with a program that is there."""
    for unit in UNITS.iterdir():
        text = re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", unit.read_text("utf-8"))
        (tmp_path / unit.name).write_text(text, encoding="utf-8")
    names = [unit.name for unit in UNITS.iterdir()]
    done = subprocess.run(
        ["systemd-analyze", "verify", *(str(tmp_path / name) for name in names)],
        capture_output=True,
        text=True,
        check=False,
    )
    own = [line for line in done.stderr.splitlines() if any(name in line for name in names)]
    assert own == []


def test_manila_share_starts_after_docker_and_mounts_where_docker_sees_it() -> None:
    unit = read("manila-share.service")
    assert "docker.service" in unit["Unit"]["After"].split()
    assert "docker.service" not in unit["Unit"].get("Requires", "").split()
    service = unit["Service"]
    assert {service[name] for name in (*OWN_MOUNTS, "NoNewPrivileges")} == {"no"}
    assert (service["User"], service["SupplementaryGroups"]) == ("manila", "docker")
    assert "container-stack" in service["StateDirectory"].split()
    assert service["KillMode"] == "mixed"
