# SPDX-License-Identifier: Apache-2.0
"""Images that are put by in the storlet manager's account: each layer once."""

import contextlib

import pytest

from container_stack import exceptions
from container_stack.storlets.deployment import stored_images
from container_stack.storlets.store import documents
from container_stack.testing import engine_archives, objects, tiny_images

from .storlet_fleet import ACCOUNT, MANAGER, OTHER, image

A, B = image("a"), image("b")
TWICE = tiny_images.make([b"one" * 700, b"", b"two", b"", b"one" * 700])


@pytest.fixture
def store():
    return objects.MemoryObjects(MANAGER)


@pytest.fixture
def kept(store):
    return stored_images.StoredImages(store)


def save(kept, made, account=ACCOUNT) -> int:
    """Put an image by and return the bytes of layers that it took."""
    sent = [0]

    def passed(pieces):
        for piece in pieces:
            sent[0] += len(piece)
            yield piece

    kept.save(account, made, passed)
    return sent[0]


def layers(store, account=ACCOUNT) -> int:
    return len(list(store.list(stored_images.CONTAINER, f"{account.scope}/layers/")))


@pytest.mark.parametrize("made", [A, TWICE], ids=["plain", "layers twice"])
def test_image_comes_back_as_it_went(kept, made):
    save(kept, made)
    with kept.open(ACCOUNT, made.image_id) as found:
        assert found.image_id == made.image_id
        assert [(each.diff_id, each.size) for each in found.layers] == [
            (each.diff_id, each.size) for each in made.layers
        ]
        for skip in range(len(made.layers) + 1):
            assert b"".join(found.stream(skip)) == b"".join(made.stream(skip))
        assert engine_archives.load(found.stream(), []).image_id == made.image_id


def test_layer_is_stored_once(kept, store):
    assert save(kept, A) > sum(layer.size for layer in A.layers)
    sent = save(kept, B)
    assert sent == 1024
    assert layers(store) == 4
    assert save(kept, A) == 0
    assert sorted(kept.list(ACCOUNT)) == sorted([A.image_id, B.image_id])
    assert list(kept.list(OTHER)) == []
    assert not kept.has(OTHER, A.image_id)


def test_large_layer_is_stored_in_segments(store):
    kept = stored_images.StoredImages(store, segment_size=4000)
    save(kept, A)
    name = f"{ACCOUNT.scope}/layers/{A.layers[0].diff_id.removeprefix('sha256:')}"
    assert store.head(stored_images.CONTAINER, name).segmented
    assert len(list(store.list(stored_images.SEGMENTS))) == 4
    with kept.open(ACCOUNT, A.image_id) as found:
        assert b"".join(found.stream()) == b"".join(A.stream())
    kept.remove(ACCOUNT, A.image_id)
    assert list(store.list(stored_images.SEGMENTS)) == []


def test_removed_image_takes_its_own_layers_along(kept, store):
    for made in (A, B):
        save(kept, made)
    save(kept, A, OTHER)
    kept.remove(ACCOUNT, A.image_id)
    kept.remove(ACCOUNT, A.image_id)
    assert (layers(store), layers(store, OTHER)) == (3, 3)
    assert not kept.has(ACCOUNT, A.image_id)
    with kept.open(ACCOUNT, B.image_id) as found:
        assert b"".join(found.stream()) == b"".join(B.stream())
    with pytest.raises(exceptions.NotFound, match="isn't kept"), kept.open(ACCOUNT, A.image_id):
        pass


def test_interrupted_saving_leaves_no_image_and_is_taken_up_again(kept, store):
    for failing in range(1, 20):
        with contextlib.suppress(exceptions.ServiceUnavailable):
            save(_Failing(store, failing), A)
            break
        assert not kept.has(ACCOUNT, A.image_id) or failing > 3
    assert kept.has(ACCOUNT, A.image_id)


def _Failing(store, failing):  # noqa: N802
    class Failing(objects.MemoryObjects):
        left = failing

        def write(self, *args, **kwargs):
            self.left -= 1
            if not self.left:
                raise exceptions.ServiceUnavailable("no more")
            return super().write(*args, **kwargs)

    return stored_images.StoredImages(Failing(MANAGER, cloud=store.cloud))


def test_document_of_another_image_or_account_is_refused(kept, store):
    save(kept, A)
    name = f"{ACCOUNT.scope}/images/{A.image_id.removeprefix('sha256:')}"
    data = b"".join(store.read(stored_images.CONTAINER, name))
    other = name.replace(A.image_id[-5:], B.image_id[-5:])
    store.write(stored_images.CONTAINER, other, data)
    wrong = "sha256:" + other.rpartition("/")[2]
    with pytest.raises(documents.Corrupt), kept.open(ACCOUNT, wrong):
        pass
    store.write(stored_images.CONTAINER, name, b"{}")
    with pytest.raises(documents.Corrupt), kept.open(ACCOUNT, A.image_id):
        pass
