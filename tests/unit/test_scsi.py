# SPDX-License-Identifier: Apache-2.0
"""What targets say, and what it means; also what no honest target would say."""

import struct

import hypothesis
import pytest
from hypothesis import strategies

from container_stack import exceptions
from container_stack.host import scsi


def _listing(*units: bytes) -> bytes:
    return struct.pack(">I4x", 8 * len(units)) + b"".join(units) + bytes(64)


def test_units_are_listed_as_they_are_addressed() -> None:
    first, last, far = (number.to_bytes(2, "big") + bytes(6) for number in (0, 1, 0x412C))
    behind_a_bridge = b"\x00\x01\x00\x02" + bytes(4)
    assert scsi.parse_luns(_listing(first, last, far, behind_a_bridge)) == [0, 1, 0x412C]
    assert scsi.encode_lun(1) == 1
    assert scsi.encode_lun(300) == 0x412C


def test_size_is_that_of_all_blocks() -> None:
    assert scsi.parse_capacity(struct.pack(">QI20x", 99, 512)) == (51_200, 512)
    assert scsi.parse_capacity(struct.pack(">QI20x", 2**33, 4096)) == ((2**33 + 1) * 4096, 4096)


@pytest.mark.parametrize(
    ("last", "block"), [(99, 0), (99, 513), (99, 2**31), (2**64 - 1, 512), (2**52, 4096)]
)
def test_impossible_sizes_are_refused(last: int, block: int) -> None:
    with pytest.raises(exceptions.ArrayUnavailable):
        scsi.parse_capacity(struct.pack(">QI20x", last, block))


@hypothesis.given(strategies.binary(min_size=32, max_size=200))
def test_nonsense_is_survived(data: bytes) -> None:
    assert all(0 <= unit < 2**16 for unit in scsi.parse_luns(data))
    try:
        size, block = scsi.parse_capacity(data)
    except exceptions.ArrayUnavailable:
        return
    assert size % block == 0


def test_commands_say_where_and_how_much() -> None:
    assert scsi.write(2**33 + 5, 1024).hex() == "8a00" + "0000000200000005" + "00000400" + "0000"
    assert scsi.read(7, 1).hex() == "8800" + "0000000000000007" + "00000001" + "0000"
    assert len(scsi.synchronize_cache()) == 10
    assert len(scsi.report_luns(4096)) == 12
    assert len(scsi.inquiry(36)) == 6
    assert len(scsi.read_capacity(32)) == 16


@hypothesis.given(
    strategies.integers(0, 255), strategies.integers(0, 15), strategies.integers(0, 0xFFFF)
)
def test_every_answer_is_a_success_or_an_error_that_can_be_read(
    status: int, key: int, code: int
) -> None:
    error = scsi.Answer(status, key, code).error("iqn.2026-11.test:x")
    assert (error is None) == (status == scsi.GOOD)
    assert error is None or (str(error).endswith(".") and "iqn.2026-11.test:x" in str(error))
