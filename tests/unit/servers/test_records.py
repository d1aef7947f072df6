# SPDX-License-Identifier: Apache-2.0
"""Records of servers: what comes back, and what isn't taken for one."""

import dataclasses
import stat
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.servers import model, records

ID = "6f70656e-7374-4163-8b73-657276657273"
OTHER = "6f70656e-7374-4163-8b73-657276657274"

RECORD = records.Record(
    ID,
    "nova-here",
    "instance-00000007",
    records.Step.STARTING,
    (
        model.Port(
            OTHER,
            "network",
            model.Binding.OVS_HYBRID,
            "02:00:00:00:00:01",
            bridge="br-int",
            addresses=("192.0.2.7/24",),
            gateways=("192.0.2.1",),
            routes=(model.Route("198.51.100.0/24", "192.0.2.9"),),
            mtu=1450,
            dns=("192.0.2.53",),
        ),
    ),
)


@pytest.fixture
def kept(tmp_path: Path) -> records.ServerRecords:
    made = records.ServerRecords(str(tmp_path / "servers"), "nova-here")
    made.write(RECORD)
    return made


def test_record_comes_back_as_it_was(kept: records.ServerRecords) -> None:
    assert kept.read(ID) == RECORD
    assert kept.ids() == [ID]
    after = dataclasses.replace(RECORD, step=records.Step.READY, ports=())
    kept.write(after)
    assert kept.read(ID) == after


def test_directory_is_its_owners_alone(kept: records.ServerRecords) -> None:
    mode = stat.S_IMODE(Path(kept.directory(ID)).stat().st_mode)
    assert mode == 0o700


def test_records_of_others_are_none(kept: records.ServerRecords, tmp_path: Path) -> None:
    others = records.ServerRecords(str(tmp_path / "servers"), "nova-there")
    assert others.read(ID) is None
    assert (others.ids(), others.strays()) == ([], [])


@pytest.mark.parametrize(
    "text", ["", "[]", "{", "{}", '{"id": 7}', '{"owner": "nova-here", "step": "flying"}']
)
def test_what_a_loss_of_power_left_of_a_record_is_none(
    kept: records.ServerRecords, text: str
) -> None:
    (Path(kept.directory(ID)) / "record.json").write_text(text)
    assert kept.read(ID) is None
    assert kept.ids() == []
    kept.write(RECORD)
    assert kept.read(ID) == RECORD


def test_removal_takes_all_of_the_directory_and_may_be_repeated(
    kept: records.ServerRecords,
) -> None:
    (Path(kept.directory(ID)) / "config-drive" / "openstack").mkdir(parents=True)
    for _ in range(2):
        kept.remove(ID)
    assert not Path(kept.directory(ID)).exists()
    assert kept.ids() == []


def test_directory_without_record_is_a_stray(kept: records.ServerRecords) -> None:
    Path(kept.directory(OTHER)).mkdir()
    (Path(kept.directory(ID)).parent / "lost+found").mkdir()
    assert kept.strays() == [OTHER]
    assert kept.ids() == [ID]


@pytest.mark.parametrize("bad", ["", "..", "x/../y", ID.upper(), ID + "\n"])
def test_what_is_no_id_leads_nowhere(kept: records.ServerRecords, bad: str) -> None:
    with pytest.raises(exceptions.InvalidRequest):
        kept.directory(bad)
