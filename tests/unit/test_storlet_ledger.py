# SPDX-License-Identifier: Apache-2.0
"""What managers know of accounts' images: written once, read strictly, believed only if whole."""

import contextlib
import dataclasses
import json

import hypothesis
import pytest
from hypothesis import strategies

from container_stack import exceptions
from container_stack.storlets import model
from container_stack.storlets.deployment import leases, ledger, versions
from container_stack.storlets.store import claims, documents
from container_stack.testing import objects

from .storlet_fleet import ACCOUNT, MANAGER, OTHER, image, verified

A, B = image("a"), image("b")
TWIN = model.Account(ACCOUNT.name[:18] + "f" * 8)


@pytest.fixture
def store():
    return objects.MemoryObjects(MANAGER)


@pytest.fixture
def books(store):
    return ledger.Ledger(store)


def version(made=A, **values) -> versions.Version:
    layers = tuple(versions.Layer(each.diff_id, each.size) for each in made.layers)
    first = versions.Version(
        0,
        made.image_id,
        "ann",
        1_700_000_000.25,
        layers,
        verified(made),
        versions.Source("docker_images", "ffmpeg ü.tar", "0" * 32),
        "a note\nof two lines",
    )
    return dataclasses.replace(first, **values)


def deployment(made=A, **values) -> versions.Deployment:
    known = {"node2": None, "node3": B.image_id}
    first = versions.Deployment("", versions.Phase.STAGING, version(made), A.image_id, known)
    return dataclasses.replace(first, **values)


def test_deployment_is_read_as_it_was_written(store, books):
    begun = books.begin(ACCOUNT, deployment(known=True, unfinished=("node7",), wave=3, waves=11))
    assert ledger.Ledger(store).deployment(ACCOUNT) == begun
    assert begun.version.number == 1
    assert begun.previous_of("node1") == A.image_id
    assert begun.previous_of("node2") is None
    later = dataclasses.replace(begun, phase=versions.Phase.SWITCHING, wave=4, previous=None)
    books.save(ACCOUNT, later)
    assert ledger.Ledger(store).deployment(ACCOUNT) == later


def test_committed_version_is_current_and_in_the_history(store, books):
    for number, made in enumerate((A, B), 1):
        begun = books.begin(ACCOUNT, deployment(made))
        assert begun.version.number == number
        assert not books.is_committed(ACCOUNT, begun)
        assert books.commit(ACCOUNT, begun) == begun.version
    assert books.deployment(ACCOUNT) is None
    assert books.current(ACCOUNT) == versions.Current(2, B.image_id, 1_700_000_000.25)
    again = ledger.Ledger(store)
    assert list(again.history(ACCOUNT)) == [version(B, number=2), version(A, number=1)]
    assert list(again.history(ACCOUNT, below=2)) == [version(A, number=1)]
    assert again.deployed(ACCOUNT) == version(B, number=2)
    assert again.before_current(ACCOUNT) == version(A, number=1)
    assert list(again.accounts()) == [ACCOUNT]


def test_failed_version_is_in_the_history_and_never_current(books):
    books.commit(ACCOUNT, books.begin(ACCOUNT, deployment()))
    books.abandon(ACCOUNT, books.begin(ACCOUNT, deployment(B)), "node3: no room")
    newest = next(books.history(ACCOUNT))
    assert (newest.number, newest.outcome, newest.error) == (2, "failed", "node3: no room")
    assert books.current(ACCOUNT).number == 1
    assert books.deployment(ACCOUNT) is None
    with pytest.raises(exceptions.NotFound):
        books.before_current(ACCOUNT)


def test_one_deployment_of_an_account_at_a_time(books):
    begun = books.begin(ACCOUNT, deployment())
    with pytest.raises(exceptions.Busy):
        books.begin(ACCOUNT, deployment(B))
    assert books.deployment(ACCOUNT) == begun
    books.begin(OTHER, deployment(B))


def test_write_that_was_repeated_by_its_client_is_not_another_deployment(store):
    class Stammering(objects.MemoryObjects):
        """Its answers get lost, and the client sends everything twice."""

        def write(self, *args, **kwargs):
            etag = super().write(*args, **kwargs)
            if kwargs.get("new"):
                super().write(*args, **kwargs)
            return etag

    books = ledger.Ledger(Stammering(MANAGER, cloud=store.cloud))
    begun = books.begin(ACCOUNT, deployment())
    assert books.commit(ACCOUNT, begun).number == 1


def test_who_was_taken_over_writes_nothing_more(store, books):
    begun = books.begin(ACCOUNT, deployment())
    other = ledger.Ledger(store)
    taken = other.take_over(ACCOUNT, other.deployment(ACCOUNT))
    assert taken == dataclasses.replace(begun, token=taken.token)
    for write in (
        lambda: books.save(ACCOUNT, begun),
        lambda: books.commit(ACCOUNT, begun),
        lambda: books.abandon(ACCOUNT, begun, "why"),
    ):
        with pytest.raises(leases.LeaseLost):
            write()
    assert other.deployment(ACCOUNT) == taken
    other.commit(ACCOUNT, taken)
    with pytest.raises(leases.LeaseLost):
        books.save(ACCOUNT, begun)


def test_numbers_go_on_though_lists_are_behind(store):
    """Swift's lists of a container may lack an object for a while."""

    class Behind(objects.MemoryObjects):
        def list(self, container, prefix=""):
            return iter([])

    store.set_container(ledger.CONTAINER, {})
    books = ledger.Ledger(Behind(MANAGER, cloud=store.cloud))
    assert books.commit(ACCOUNT, books.begin(ACCOUNT, deployment())).number == 1
    assert books.commit(ACCOUNT, books.begin(ACCOUNT, deployment(B))).number == 2
    books.abandon(ACCOUNT, books.begin(ACCOUNT, deployment(B)), "why")
    last = books.commit(ACCOUNT, books.begin(ACCOUNT, deployment(B)))
    assert last.number == 4
    assert books.current(ACCOUNT).number == 4
    assert [each.number for each in ledger.Ledger(store).history(ACCOUNT)] == [4, 3, 2, 1]


def test_scope_belongs_to_who_came_first(store, books):
    books.check(TWIN)
    books.begin(ACCOUNT, deployment())
    with pytest.raises(exceptions.InvalidRequest, match=ACCOUNT.name):
        books.check(TWIN)
    with pytest.raises(exceptions.InvalidRequest, match=ACCOUNT.name):
        books.begin(TWIN, deployment())
    books.check(OTHER)
    claims.Claims(store).claim(OTHER, [])
    with pytest.raises(exceptions.InvalidRequest, match=OTHER.name):
        books.check(model.Account(OTHER.name[:18] + "f" * 8))
    with pytest.raises(exceptions.InvalidRequest, match="own account"):
        books.check(model.Account(MANAGER))


def test_nothing_is_asked_twice_of_an_empty_store(books):
    assert books.current(ACCOUNT) is None
    assert books.deployment(ACCOUNT) is None
    assert books.deployed(ACCOUNT) is None
    assert list(books.history(ACCOUNT)) == []
    assert list(books.accounts()) == []
    with pytest.raises(exceptions.NotFound):
        books.version(ACCOUNT, 1)


def filled(store):
    """Return readers of all documents, by name, each of which is there."""
    books = ledger.Ledger(store)
    books.commit(ACCOUNT, books.begin(ACCOUNT, deployment()))
    books.begin(ACCOUNT, deployment(B))
    return {
        f"{ACCOUNT.scope}/account": lambda: (books.check(ACCOUNT), list(books.accounts())),
        f"{ACCOUNT.scope}/current": lambda: books.current(ACCOUNT),
        f"{ACCOUNT.scope}/deployment": lambda: books.deployment(ACCOUNT),
        f"{ACCOUNT.scope}/versions/00000001": lambda: books.version(ACCOUNT, 1),
    }


WHATS = ("account", "current", "deployment", "versions/00000001")


def content(store, name) -> dict:
    return json.loads(b"".join(store.read(ledger.CONTAINER, name)))


def put(store, name, data) -> None:
    store.write(ledger.CONTAINER, name, data if isinstance(data, bytes) else encoded(data))


def encoded(data) -> bytes:
    return json.dumps(data).encode()


@pytest.mark.parametrize("what", WHATS)
@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"[" * 100_000, b"{}", b'{"schema": 1}'],
)
def test_damaged_state_is_named_and_not_believed(store, what, damage):
    readers = filled(store)
    name = f"{ACCOUNT.scope}/{what}"
    put(store, name, damage)
    with pytest.raises(documents.Corrupt, match=name):
        readers[name]()


@pytest.mark.parametrize("what", WHATS)
def test_state_of_a_later_release_is_left_alone(store, what):
    readers = filled(store)
    name = f"{ACCOUNT.scope}/{what}"
    put(store, name, content(store, name) | {"schema": documents.SCHEMA + 1})
    with pytest.raises(documents.Corrupt, match="later release"):
        readers[name]()


def test_state_that_grows_without_end_is_not_read(store):
    readers = filled(store)
    name = f"{ACCOUNT.scope}/current"
    put(store, name, b" " * (documents.LIMIT + 1))
    with pytest.raises(documents.Corrupt, match="too large"):
        readers[name]()


def test_state_of_another_account_is_not_ours(store):
    readers = filled(store)
    for what in ("current", "deployment", "versions/00000001"):
        name = f"{ACCOUNT.scope}/{what}"
        put(store, name, content(store, name) | {"account": OTHER.name})
        with pytest.raises(documents.Corrupt, match="isn't about"):
            readers[name]()


def leaves(value, path=()):
    """Yield the paths of all values in a document."""
    yield path
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(each, (*path, key))


def changed(value, path, new):
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


@hypothesis.settings(max_examples=150, deadline=None)
@hypothesis.given(data=strategies.data(), what=strategies.sampled_from(WHATS))
def test_any_change_is_refused_or_read_as_a_document_of_the_same_form(data, what):
    store = objects.MemoryObjects(MANAGER)
    readers = filled(store)
    name = f"{ACCOUNT.scope}/{what}"
    whole = content(store, name)
    path = data.draw(strategies.sampled_from(list(leaves(whole))))
    new = data.draw(
        strategies.none()
        | strategies.booleans()
        | strategies.integers()
        | strategies.floats()
        | strategies.text(max_size=5)
        | strategies.lists(strategies.integers(), max_size=2)
        | strategies.dictionaries(strategies.text(max_size=3), strategies.integers(), max_size=2)
    )
    put(store, name, changed(whole, path, new))
    with contextlib.suppress(documents.Corrupt, exceptions.InvalidRequest):
        readers[name]()
