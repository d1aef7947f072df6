# SPDX-License-Identifier: Apache-2.0
"""What may be said when a volume is made through Docker."""

import datetime

import pytest

from container_stack import exceptions
from container_stack.drivers import docker_options
from container_stack.volumes import model

PARENT = model.Volume(
    id="6f1c1b2e-52f0-4b0e-9a54-2d2a64f3c9d1",
    driver="btrfs",
    name="parent",
    spec=model.Spec(size=3 * 1024**2, filesystem="xfs", cos=4, snapshot_interval=7),
    created_at=datetime.datetime.now(datetime.UTC),
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        *(("1234567", 1234567), ("3k", 3072), ("5M", 5 * 1024**2), ("2g", 2 * 1024**3)),
        *(("1T", 1024**4), ("7GiB", 7 * 1024**3), ("7GB", 7 * 1024**3), ("9B", 9)),
    ],
)
def test_sizes_are_bytes_or_have_a_unit(text: str, size: int) -> None:
    assert docker_options.parse({"size": text}).new(None).size == size


@pytest.mark.parametrize(
    "text", ["", "-1", "1.5G", "1 G", "G", "0", "0x10", "1e3", "٣", "1P", "9" * 30, "1\n", "nan"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(exceptions.InvalidRequest):
        docker_options.parse({"size": text}).new(None)


def test_all_options_together() -> None:
    wish = docker_options.parse(
        {
            "size": "1G",
            "fs": "xfs",
            "labels": "a=1,b=x=y",
            "from": "parent",
            "snapshot_interval": "60",
            "snapshot_keep": "3",
            "cos": "7",
            "block_size": "32k",
            "ha_level": "2",
        }
    )
    assert wish.labels == {"a": "1", "b": "x=y"}
    assert wish.source == "parent"
    assert wish.new(None) == model.Spec(
        size=1024**3,
        filesystem="xfs",
        snapshot_interval=60,
        snapshot_keep=3,
        cos=7,
        block_size=32768,
        ha_level=2,
    )


@pytest.mark.parametrize("options", [None, {}])
def test_no_options_mean_the_usual(options: object) -> None:
    assert docker_options.parse(options).new(None) == model.Spec()


@pytest.mark.parametrize(
    ("name", "near"),
    [("sise", "size"), ("SIZE", "size"), ("label", "labels"), ("blocksize", "block_size")],
)
def test_an_unknown_option_names_the_nearest(name: str, near: str) -> None:
    with pytest.raises(exceptions.InvalidRequest, match=f"mean '{near}'"):
        docker_options.parse({name: "1"})


def test_an_unknown_option_like_no_other_lists_all() -> None:
    with pytest.raises(exceptions.InvalidRequest, match="block_size, cos, format, from, fs"):
        docker_options.parse({"qqqq": "1"})


@pytest.mark.parametrize(
    "options",
    [
        *([], "size=1", 7, {"size": 7}, {"size": None}, {"labels": "a"}, {"labels": "=1"}),
        *({"labels": "a=\x00"}, {"cos": "10"}, {"ha_level": "-1"}, {"fs": "../xfs"}),
        *({"snapshot_keep": "0"}, {"labels": ",".join(f"k{n}=v" for n in range(65))}),
    ],
)
def test_what_isnt_meant_is_refused(options: object) -> None:
    with pytest.raises(exceptions.InvalidRequest):
        docker_options.parse(options).new(None)


def test_two_words_for_one_thing_must_agree() -> None:
    assert docker_options.parse({"fs": "xfs", "format": "xfs"}).spec == {"filesystem": "xfs"}
    with pytest.raises(exceptions.InvalidRequest, match="format and fs"):
        docker_options.parse({"fs": "xfs", "format": "ext4"})


def test_a_clone_is_as_large_as_its_parent_and_has_no_schedule_of_its_own() -> None:
    spec = docker_options.parse({"from": "parent"}).new(PARENT)
    assert (spec.size, spec.filesystem, spec.cos) == (3 * 1024**2, "xfs", 4)
    assert spec.snapshot_interval == 0
    assert docker_options.parse({"from": "parent", "size": "4M"}).new(PARENT).size == 4 * 1024**2


def test_what_nobody_named_needs_no_agreement() -> None:
    assert docker_options.parse(None).is_met_by(PARENT, None)
    assert docker_options.parse({"size": "3M"}).is_met_by(PARENT, None)
    assert not docker_options.parse({"size": "4M"}).is_met_by(PARENT, None)
    assert not docker_options.parse({"labels": "a=1"}).is_met_by(PARENT, None)
    assert not docker_options.parse({"from": "x"}).is_met_by(PARENT, PARENT)
