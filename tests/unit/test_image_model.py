# SPDX-License-Identifier: Apache-2.0
"""Names and notes of images on an array."""

import re

import pytest

from container_stack import exceptions
from container_stack.imagestore import journal, model

IMAGE, CLONE = "6f1a5a52-6b8d-4b1c-9a66-0b4f0c1d2e3a", "0d9d5b0e-3f52-4a0f-8f0e-b3c1a2d4e5f6"
LEGAL = re.compile(r"[a-zA-Z_][\w\-.]{2,63}")


def test_names_are_legal_for_the_longest_ids():
    longest = "x" * journal.ID_LENGTH
    assert LEGAL.fullmatch(model.image_name(longest))
    assert LEGAL.fullmatch(model.clone_name(longest, longest))
    for name in (model.image_name, lambda each: model.clone_name(IMAGE, each)):
        with pytest.raises(exceptions.InvalidRequest):
            name(longest + "x")


def test_name_of_a_clone_tells_its_image():
    prefix, clone_id = model.split_clone(model.clone_name(IMAGE, CLONE))
    assert (prefix, clone_id) == (model.clone_prefix(IMAGE), CLONE)
    assert prefix != model.clone_prefix(CLONE)
    assert model.image_id(model.image_name(IMAGE)) == IMAGE


@pytest.mark.parametrize(
    ("size", "gib"), [(0, 1), (1, 1), (2**30, 1), (2**30 + 1, 2), (32768 * 2**30, 32768)]
)
def test_volumes_are_whole_gib(size, gib):
    assert model.gib(size) == gib


def test_image_larger_than_any_volume_is_refused():
    with pytest.raises(exceptions.InvalidRequest):
        model.gib(32768 * 2**30 + 1)


def test_only_a_noted_length_makes_an_image_finished():
    for noted in ({}, {"length": ""}, {"length": "²"}, {"length": "-1"}, model.begun("host")):
        assert model.length(noted) is None
    done = model.Stored(IMAGE, 7, {"md5": "aa", "sha512": "bb", "sha256": "cc"})
    assert model.finished(done) == {
        "type": "image",
        "length": "7",
        "checksum": "aa",
        "os_hash_algo": "sha512",
        "os_hash_value": "bb",
    }
    image = model.image(IMAGE, model.begun("host") | model.finished(done), (CLONE,))
    assert (image.size, image.checksum, image.host, image.clones) == (7, "aa", "host", (CLONE,))
