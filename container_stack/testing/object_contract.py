# SPDX-License-Identifier: Apache-2.0
"""The contract suite of :class:`container_stack.storlets.objects.ObjectStore`.

A store joins with one fixture, its users::

    class TestMine(object_contract.ObjectContract):
        @pytest.fixture
        def users(self):
            return object_world.Users(owner, guest, "their:name", own)

Each test makes a container of a new name in the owner's account, and empties it in the end.
"""

import dataclasses
import hashlib
import time
import uuid
from collections.abc import Callable, Iterable, Iterator

import pytest

from container_stack import exceptions
from container_stack.storlets import objects
from container_stack.testing import object_access_contract
from container_stack.testing.object_world import DATA

NAMES = ("a b", "a/b", "a?b=c&d", "a%20b", "ünï/ćode", "b", "#1", "a+b", "..a", "-")
BAD_NAMES = ("", ".", "..", "../b", "a/../b", "a/./b", "a/..", "a\0b", "x" * 1025, "\udcff")


class ObjectContract(object_access_contract.AccessContract):
    """What every object store must do."""

    def test_object_is_what_was_written(self, store: objects.ObjectStore, container: str) -> None:
        before = time.time() - 60
        etag = store.write(
            container,
            "a",
            DATA,
            metadata={"Image-Name": "ünï 50% /+ x", "Empty": ""},
            content_type="application/x-tar",
        )
        assert etag == hashlib.md5(DATA).hexdigest()
        found = store.head(container, "a")
        assert before < found.modified < time.time() + 60
        assert found == objects.Object(
            container,
            "a",
            len(DATA),
            etag,
            found.modified,
            {"image-name": "ünï 50% /+ x"},
            "application/x-tar",
        )
        assert b"".join(store.read(container, "a")) == DATA

    def test_object_is_written_from_pieces_of_known_and_unknown_number(
        self, store: objects.ObjectStore, container: str
    ) -> None:
        pieces = [DATA[:1], b"", DATA[1:70_000], DATA[70_000:]]
        for name, size in (("known", len(DATA)), ("unknown", None)):
            assert store.write(container, name, iter(pieces), size=size) == store.write(
                container, name, pieces, size=size
            )
            assert b"".join(store.read(container, name)) == DATA

    def test_empty_object_is_one(self, store: objects.ObjectStore, container: str) -> None:
        empty: tuple[bytes | Iterable[bytes], ...] = (b"", [], iter([b""]))
        for data in empty:
            store.write(container, "a", data, size=0)
            assert store.head(container, "a").size == 0
            assert b"".join(store.read(container, "a")) == b""

    @pytest.mark.parametrize("size", [0, len(DATA) - 1, len(DATA) + 1])
    def test_more_or_less_than_was_announced_is_not_stored(
        self, store: objects.ObjectStore, container: str, size: int
    ) -> None:
        store.write(container, "a", b"old")
        with pytest.raises(exceptions.InvalidRequest):
            store.write(container, "a", iter([DATA]), size=size)
        with pytest.raises(exceptions.InvalidRequest):
            store.write(container, "a", DATA, size=size)
        assert b"".join(store.read(container, "a")) == b"old"

    def test_other_bytes_than_were_announced_are_not_stored(
        self, store: objects.ObjectStore, container: str
    ) -> None:
        store.write(container, "a", b"old")
        right = hashlib.md5(DATA).hexdigest()
        with pytest.raises(exceptions.InvalidRequest):
            store.write(container, "a", [DATA[:-1], b"x"], size=len(DATA), etag=right)
        assert b"".join(store.read(container, "a")) == b"old"
        assert store.write(container, "a", DATA, etag=right) == right

    @pytest.mark.parametrize("size", [None, 2 * len(DATA)])
    def test_source_that_fails_stores_nothing(
        self, store: objects.ObjectStore, container: str, size: int | None
    ) -> None:
        class Gone(OSError):
            pass

        def pieces() -> Iterator[bytes]:
            yield DATA
            raise Gone

        with pytest.raises(Gone):
            store.write(container, "a", pieces(), size=size)
        with pytest.raises(exceptions.NotFound):
            store.head(container, "a")
        store.write(container, "a", b"the store is usable")

    def test_new_object_replaces_none(self, store: objects.ObjectStore, container: str) -> None:
        store.write(container, "a", b"first", new=True)
        with pytest.raises(exceptions.AlreadyExists):
            store.write(container, "a", b"second", new=True)
        assert b"".join(store.read(container, "a")) == b"first"
        store.write(container, "a", b"third")
        assert b"".join(store.read(container, "a")) == b"third"

    def test_range_is_read_and_nothing_else(
        self, store: objects.ObjectStore, container: str
    ) -> None:
        etag = store.write(container, "a", DATA)
        for start, length in ((0, 1), (1, 99_999), (199_000, 1003), (3, None), (199_999, 10**9)):
            end = None if length is None else start + length
            assert b"".join(store.read(container, "a", start, length)) == DATA[start:end]
            read = store.read(container, "a", start, length, etag=etag)
            assert b"".join(read) == DATA[start:end]

    def test_impossible_ranges_are_refused(
        self, store: objects.ObjectStore, container: str
    ) -> None:
        store.write(container, "a", DATA)
        for start, length in ((len(DATA), 1), (len(DATA), None), (0, 0), (-1, None), (5, -1)):
            with pytest.raises(exceptions.InvalidRequest):
                list(store.read(container, "a", start, length))

    def test_changed_object_is_not_read_on(
        self, store: objects.ObjectStore, container: str
    ) -> None:
        old = store.write(container, "a", DATA)
        store.write(container, "a", DATA[::-1])
        for start in (0, 1000):
            with pytest.raises(exceptions.Busy):
                list(store.read(container, "a", start, etag=old))

    def test_metadata_is_replaced_as_a_whole(
        self, store: objects.ObjectStore, container: str
    ) -> None:
        store.write(container, "a", DATA, metadata={"one": "1", "two": "2"}, content_type="x/y")
        store.set_metadata(container, "a", {"Two": "zwei", "three": "3"})
        found = store.head(container, "a")
        assert found.metadata == {"two": "zwei", "three": "3"}
        assert (found.size, found.content_type) == (len(DATA), "x/y")
        store.set_metadata(container, "a", {})
        assert store.head(container, "a").metadata == {}

    @pytest.mark.parametrize(
        "metadata",
        [{"image_name": "a"}, {"": "a"}, {"a": "x\ny"}, {"a": "x" * 257}, {"a b": "c"}],
    )
    def test_metadata_that_would_be_lost_is_refused(
        self, store: objects.ObjectStore, container: str, metadata: dict[str, str]
    ) -> None:
        with pytest.raises(exceptions.InvalidRequest):
            store.write(container, "a", DATA, metadata=metadata)
        store.write(container, "a", DATA)
        with pytest.raises(exceptions.InvalidRequest):
            store.set_metadata(container, "a", metadata)

    def test_objects_are_listed_by_prefix_in_order(
        self, store: objects.ObjectStore, container: str
    ) -> None:
        for name in NAMES:
            store.write(container, name, name.encode())
        listed = list(store.list(container))
        assert [each.name for each in listed] == sorted(NAMES, key=str.encode)
        for each in listed:
            assert b"".join(store.read(container, each.name)) == each.name.encode()
            found = store.head(container, each.name)
            assert abs(found.modified - each.modified) < 2
            assert dataclasses.replace(found, modified=each.modified) == each
        assert [each.name for each in store.list(container, "a")] == sorted(
            (name for name in NAMES if name.startswith("a")), key=str.encode
        )
        assert list(store.list(container, "no such")) == []

    @pytest.mark.parametrize("name", BAD_NAMES)
    def test_names_that_mean_something_else_in_a_url_are_refused(
        self, store: objects.ObjectStore, container: str, name: str
    ) -> None:
        actions: tuple[Callable[[], object], ...] = (
            lambda: store.write(container, name, b""),
            lambda: store.head(container, name),
            lambda: list(store.read(container, name)),
            lambda: store.remove(container, name),
            lambda: store.set_metadata(container, name, {}),
            lambda: store.segments(container, name),
            lambda: store.container(name),
            lambda: store.set_container(name, {}),
            lambda: list(store.list(name)),
        )
        for action in actions:
            with pytest.raises(exceptions.InvalidRequest):
                action()

    def test_what_is_not_there_is_not_found(
        self, store: objects.ObjectStore, container: str
    ) -> None:
        none = f"cstest-{uuid.uuid4().hex}"
        actions: tuple[Callable[[], object], ...] = (
            lambda: store.head(container, "a"),
            lambda: store.head(none, "a"),
            lambda: list(store.read(container, "a")),
            lambda: store.segments(container, "a"),
            lambda: store.set_metadata(container, "a", {"b": "c"}),
            lambda: store.write(none, "a", b"b"),
            lambda: list(store.list(none)),
            lambda: store.container(none),
        )
        for action in actions:
            with pytest.raises(exceptions.NotFound):
                action()

    def test_removed_object_is_gone_and_removing_again_is_fine(
        self, store: objects.ObjectStore, container: str
    ) -> None:
        store.write(container, "a", DATA)
        for _again in range(2):
            store.remove(container, "a")
            with pytest.raises(exceptions.NotFound):
                store.head(container, "a")
