# SPDX-License-Identifier: Apache-2.0
"""Several streams travel in one, and whatever comes instead is refused in words."""

import hypothesis
import pytest
from hypothesis import strategies

from container_stack import exceptions
from container_stack.servers.moving import parcels

PARTS = strategies.lists(strategies.lists(strategies.binary(max_size=50), max_size=5), max_size=4)


def cut(whole, sizes):
    """Yield a text in pieces of these sizes, and what is left."""
    for size in sizes:
        piece, whole = whole[:size], whole[size:]
        yield piece
    yield whole


@hypothesis.given(PARTS, strategies.lists(strategies.integers(0, 9), max_size=40))
def test_parts_arrive_as_they_were_however_they_are_cut(parts, sizes):
    parcel = parcels.Parcel(cut(b"".join(parcels.pack(parts)), sizes))
    assert [b"".join(parcel.part()) for _ in parts] == [b"".join(part) for part in parts]
    parcel.end()


@hypothesis.given(PARTS.filter(len), strategies.data())
def test_parcel_that_ends_early_is_refused(parts, data):
    whole = b"".join(parcels.pack(parts))
    end = data.draw(strategies.integers(0, len(whole) - 1))
    parcel = parcels.Parcel([whole[:end]])
    with pytest.raises(exceptions.InvalidRequest, match="too early"):
        _ = [list(parcel.part()) for _ in parts]


def test_what_was_never_a_parcel_is_refused_before_it_fills_memory():
    with pytest.raises(exceptions.InvalidRequest, match="no parcel"):
        list(parcels.Parcel([b"manifest.json" + bytes(100)]).part())


def test_more_than_was_packed_is_refused():
    whole = b"".join(parcels.pack([[b"one"]]))
    for rest in (b"x", b""):
        parcel = parcels.Parcel([whole + rest, b"more"])
        assert list(parcel.part()) == [b"one"]
        with pytest.raises(exceptions.InvalidRequest, match="more parts"):
            parcel.end()


def test_long_chunks_are_cut():
    long = bytes(parcels.LONGEST * 2 + 5)
    parcel = parcels.Parcel(parcels.pack([[long], [b"next"]]))
    assert [len(each) for each in parcel.part()] == [parcels.LONGEST, parcels.LONGEST, 5]
    assert list(parcel.part()) == [b"next"]
