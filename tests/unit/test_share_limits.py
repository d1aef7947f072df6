# SPDX-License-Identifier: Apache-2.0
"""What a share may read and write in a second: what types say, and what the kernel is told."""

import os
import re

import pytest

from container_stack import exceptions
from container_stack.drivers.manila import qos
from container_stack.host import device_limits
from container_stack.rootwrap import cmd, limit
from container_stack.shares import limits

GIB = 1024**3
MIB = 1024**2
NUMBER = os.makedev(253, 17)


def test_fixed_limits_hold_for_every_size():
    wanted = limits.Limits(bps=3 * MIB, iops=40)
    assert wanted.of(GIB) == wanted.of(7 * GIB) == device_limits.Limits(3 * MIB, 40)


def test_limits_for_each_gib_grow_with_the_share():
    wanted = limits.Limits(bps_per_gib=3 * MIB, iops_per_gib=40)
    assert wanted.of(2 * GIB) == device_limits.Limits(6 * MIB, 80)
    assert wanted.of(5 * GIB // 2) == device_limits.Limits(15 * MIB // 2, 100)


def test_of_two_limits_the_smaller_counts():
    wanted = limits.Limits(bps=5 * MIB, bps_per_gib=2 * MIB)
    assert [wanted.of(n * GIB).bps for n in (1, 2, 3)] == [2 * MIB, 4 * MIB, 5 * MIB]


def test_what_is_left_for_a_small_share_is_of_use_and_for_a_large_one_what_the_kernel_takes():
    least = limits.Limits(bps_per_gib=1, iops_per_gib=1)
    assert least.of(GIB) == device_limits.Limits(limits.LEAST_BPS, limits.LEAST_IOPS)
    most = limits.Limits(iops_per_gib=device_limits.MOST_IOPS)
    assert most.of(3 * GIB) == device_limits.Limits(None, device_limits.MOST_IOPS)


@pytest.mark.parametrize(
    "given",
    [
        {"bps": 0},
        {"bps": limits.LEAST_BPS - 1},
        {"bps": 2**63},
        {"iops": limits.LEAST_IOPS - 1},
        {"iops": 2**32},
        {"bps_per_gib": 0},
        {"iops_per_gib": 2**32},
    ],
)
def test_a_limit_that_cannot_be_kept_is_refused_by_its_name(given):
    [name] = given
    with pytest.raises(exceptions.InvalidRequest, match=f"{name} is "):
        limits.Limits(**given)


def test_a_label_says_the_same():
    wanted = limits.Limits(bps=3 * MIB, iops_per_gib=7)
    assert limits.from_label(wanted.to_label()) == wanted
    assert limits.from_label("") == limits.Limits()
    assert limits.labels(limits.Limits()) == limits.labels(None) == {}


def test_a_type_says_what_limits_there_are_among_what_others_understand():
    found = {
        "driver_handles_share_servers": "True",
        "qos": "<is> True",
        "container_stack:maxbps": "3145728",
        "container_stack:maxiopspergib": "7",
        "netapp:maxiops": "9",
    }
    assert qos.wanted(found) == limits.Limits(bps=3 * MIB, iops_per_gib=7)
    assert qos.wanted({"qos": "True"}) is None


@pytest.mark.parametrize(
    "value", ["", "-1", "0", "1", "10M", "1e9", "1.5", "٣", "9" * 20, " 99999"]
)
def test_a_wrong_value_is_refused_by_its_key(value):
    with pytest.raises(exceptions.InvalidRequest, match="container_stack:maxbps "):
        qos.wanted({"container_stack:maxbps": value})


def test_a_key_of_ours_that_there_is_not_is_refused_with_those_that_there_are():
    with pytest.raises(exceptions.InvalidRequest, match=r"maxbsp;.*container_stack:maxbps,"):
        qos.wanted({"container_stack:maxbsp": "1048576"})


def test_version_1_is_told_in_a_file_for_each_limit(tmp_path):
    most = {"rbps": 2097152, "wbps": 1048576, "riops": 0, "wiops": 120}
    limit.write(tmp_path, True, NUMBER, most)
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {
        "blkio.throttle.read_bps_device": "253:17 2097152",
        "blkio.throttle.write_bps_device": "253:17 1048576",
        "blkio.throttle.read_iops_device": "253:17 0",
        "blkio.throttle.write_iops_device": "253:17 120",
    }


def test_version_2_is_told_in_one_line(tmp_path):
    most = {"rbps": 2097152, "wbps": 0, "riops": 0, "wiops": 120}
    limit.write(tmp_path, False, NUMBER, most)
    # As the kernel's documentation has it: "8:16 rbps=2097152 wbps=max riops=max wiops=120".
    assert (tmp_path / "io.max").read_text() == "253:17 rbps=2097152 wbps=max riops=max wiops=120"
    limit.write(tmp_path, False, NUMBER, dict.fromkeys(most, 0))
    assert re.findall("=(max)", (tmp_path / "io.max").read_text()) == ["max"] * 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("kernel", "/dev/null", "1", "1"), "no block device"),
        (("kernel", "/dev/cstest-nothing", "1", "1"), "No such file"),
        (("container", "/dev/null", "0" * 64, str(os.getpid()), "1", "1", "1", "1"), "isn't in"),
        (("container", "/dev/null", "0" * 64, str(2**22), "1", "1", "1", "1"), "No such file"),
    ],
)
def test_what_is_no_device_or_no_container_is_refused(words, said):
    code, _out, error = cmd.run_own(limit.ACTIONS, words)
    assert (code, words[0] in error, said in error) == (1, True, True), error
