# SPDX-License-Identifier: Apache-2.0
"""LVM's reports and tags, without LVM."""

import json
import re

import hypothesis
import pytest
from hypothesis import strategies

from container_stack import exceptions
from container_stack.host import lvm_group, lvm_report, lvm_tags
from container_stack.rootwrap import commands

GIB = 1024**3


def report(**values: str) -> str:
    row = {
        "lv_name": "cs-one",
        "lv_size": "1",
        "lv_tags": "container_stack.id=one",
        "lv_active": "active",
        "lv_suspended": "",
        "lv_merging": "",
        "origin": "",
        "pool_lv": "",
        "data_percent": "",
    }
    return json.dumps({"report": [{"lv": [row | values]}]})


def test_sizes_are_numbers_not_text() -> None:
    # As text "10200547328" sorts before "9663676416", which once made total and free change places.
    row = {"vg_size": "10200547328", "vg_free": "9663676416", "vg_extent_size": "4194304"}
    group = lvm_report.group(json.dumps({"report": [{"vg": [row]}]}))
    assert (group.size, group.free, group.extent) == (10200547328, 9663676416, 4194304)
    assert group.size > group.free


def test_occupied_bytes_come_from_the_percentage() -> None:
    thin = lvm_report.logical_volumes(report(lv_size=str(10 * GIB), data_percent="9.50"))["cs-one"]
    assert thin.data == round(0.95 * GIB)
    assert lvm_report.logical_volumes(report(lv_size=str(10 * GIB)))["cs-one"].data == 0


def test_state_and_relations_are_read() -> None:
    text = report(lv_active="", lv_merging="merging", origin="cs-two", pool_lv="pool")
    volume = lvm_report.logical_volumes(text)["cs-one"]
    assert (volume.active, volume.merging) == (False, True)
    assert (volume.origin, volume.pool) == ("cs-two", "pool")


def test_a_suspended_volume_is_none_that_can_be_used() -> None:
    text = report(lv_active="active", lv_suspended="suspended")
    assert not lvm_report.logical_volumes(text)["cs-one"].active


def test_only_our_tags_count() -> None:
    text = report(lv_tags="theirs,container_stack.owner=a+2Cb,container_stack.odd,other.id=x")
    assert lvm_report.logical_volumes(text)["cs-one"].tags == {"owner": "a+2Cb"}


@pytest.mark.parametrize("tags", ["", "container_stack.id=two", "id=one", "theirs"])
def test_what_lacks_our_tag_is_not_ours(tags: str) -> None:
    assert lvm_group.ours(lvm_report.logical_volumes(report(lv_tags=tags))) == ({}, {})
    volumes, snapshots = lvm_group.ours(lvm_report.logical_volumes(report()))
    assert (list(volumes), list(snapshots)) == (["one"], [])


def test_empty_group_has_no_volumes() -> None:
    assert lvm_report.logical_volumes('{"report": [{"lv": []}]}') == {}


TEXTS = strategies.text(strategies.characters(exclude_categories=["Cs"]))
KEYS = strategies.from_regex(r"[a-z][a-z0-9._-]*", fullmatch=True)


@hypothesis.given(TEXTS)
def test_any_text_survives_in_the_characters_of_a_tag(text: str) -> None:
    code = lvm_report.encode(text)
    assert re.fullmatch(r"[A-Za-z0-9_.+-]*", code)
    assert lvm_report.decode(code) == text


@hypothesis.given(strategies.dictionaries(KEYS, TEXTS))
def test_labels_survive(labels: dict[str, str]) -> None:
    assert lvm_report.unpack(lvm_report.pack(labels)) == labels


@hypothesis.given(
    strategies.text(strategies.characters(exclude_categories=["Cs", "Cc"]), max_size=9)
)
def test_every_tag_that_we_make_is_admitted_by_the_filters(owner: str) -> None:
    tags = lvm_tags.of_new_volume("one", owner, {"a": owner}, "xfs")
    commands.lvm.CREATE.argv(name="cs-one", size=1, group="group", **tags)


def test_labels_too_long_for_lvm_are_refused() -> None:
    with pytest.raises(exceptions.InvalidRequest, match="labels"):
        lvm_tags.of_new_volume("one", "me", {f"l{n}": "x" * 255 for n in range(4)}, "xfs")


def test_time_survives_to_the_microsecond() -> None:
    now = lvm_tags.now()
    assert lvm_tags.time(now).timestamp() == pytest.approx(int(now) / 1e6)
    assert lvm_tags.time("1795253989022406").microsecond == 22406
