# SPDX-License-Identifier: Apache-2.0
"""A share is full, and only its own clients notice."""

import errno
import os
from pathlib import Path

import pytest
from smbprotocol import header

from acceptance import smb
from acceptance.faults import trial

MIB = 1024**2
_CHUNK = 32 * MIB


def test_clients_of_a_full_share_are_told_and_its_neighbour_and_the_service_go_on(
    trials: trial.Trial,
) -> None:
    made = trials.world
    with made.cifs.share(made.network) as share, trials.recording("beside-full") as beside:
        key = made.cifs.key(share, "carol")
        with smb.Client(share.location, "carol", key) as client:
            client.write("first", b"calm sea")
            name = share.location.rpartition("\\")[2]
            _fill(made.cifs.state / "mounts/shares" / share.server / name / "data")
            with pytest.raises(smb.FAILED) as error:
                _write(client, 200)
            told = getattr(error.value, "status", None) or getattr(error.value, "ntstatus", None)
            assert told == header.NtStatus.STATUS_DISK_FULL
            assert client.read("first") == b"calm sea"
        beside.wait_for_more()

        # What helps is what an operator can do while it is full.
        assert made.client.extend(share.id, 2).status == "available"
        with smb.Client(share.location, "carol", key) as client:
            _write(client, 64)
    trials.check_share(beside, reverted=False)


def _write(client: smb.Client, count: int) -> None:
    """Write a file of so many MiB, each flushed."""
    with client.open("log", "wb") as file:
        for _ in range(count):
            file.write(bytes(MIB))
            file.flush()


def _fill(directory: Path) -> None:
    """Fill a share all but a little."""
    with (directory / "filler").open("wb") as file:
        for number in range(1024):
            try:
                os.posix_fallocate(file.fileno(), number * _CHUNK, _CHUNK)
            except OSError as exc:
                if exc.errno == errno.ENOSPC:
                    return
                raise
    raise AssertionError("The share has more room than it should")
