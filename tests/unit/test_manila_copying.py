# SPDX-License-Identifier: Apache-2.0
"""Shares made from snapshots: how Manila learns that one is ready, also after a restart."""

import threading

import pytest

from container_stack import exceptions
from container_stack.drivers.manila import answers, copying
from container_stack.shares import model

WANTED = copying.Wanted("share-2", "server-1", 3 * answers.GIB, "CIFS", "snap-1")
MADE = model.Share("share-2", "server-1", 3 * answers.GIB, (r"\\192.0.2.5\share-2",), "CIFS")


class Memory:
    """Manila's private storage, which outlives the service."""

    def __init__(self):
        self.details = {}

    def update(self, entity, details, delete_existing=False):
        assert all(isinstance(each, str) for each in details.values())
        self.details[entity] = dict(details)

    def get(self, entity):
        return self.details.get(entity, {})

    def delete(self, entity):
        self.details.pop(entity, None)


class Shares:
    """A service in which copying takes until it is told to end."""

    def __init__(self, error=None):
        self.end = threading.Event()
        self.asked = []
        self._error = error

    def create(self, *words, **options):
        self.asked.append((*words, options["snapshot_id"]))
        assert self.end.wait(60)
        if self._error:
            raise self._error
        return MADE


def test_what_is_soon_ready_is_told_at_once_and_forgotten():
    shares, memory = Shares(), Memory()
    shares.end.set()
    job = copying.Copies(shares, memory, 60).begin(WANTED)
    assert job.result(0) == MADE
    assert shares.asked == [("share-2", "server-1", 3 * answers.GIB, "CIFS", "snap-1")]
    assert memory.details == {}


def test_what_takes_long_is_asked_for_until_it_is_ready():
    shares, memory = Shares(), Memory()
    copies = copying.Copies(shares, memory, 0)
    job = copies.begin(WANTED)
    assert not job.done()
    assert copies.look("share-2") is job
    shares.end.set()
    assert job.result(60) == MADE
    assert copies.look("share-2").done()
    assert len(shares.asked) == 1
    assert memory.details == {}


def test_a_service_that_was_killed_begins_again_when_it_is_asked():
    first, memory = Shares(), Memory()
    copying.Copies(first, memory, 0).begin(WANTED)
    second = Shares()
    copies = copying.Copies(second, memory, 0)
    job = copies.look("share-2")
    second.end.set()
    assert job.result(60) == MADE
    first.end.set()
    assert second.asked == [("share-2", "server-1", 3 * answers.GIB, "CIFS", "snap-1")]


def test_a_failure_is_told_once():
    shares, memory = Shares(exceptions.NoSpace("The pool is full.")), Memory()
    shares.end.set()
    copies = copying.Copies(shares, memory, 60)
    with pytest.raises(exceptions.NoSpace):
        copies.begin(WANTED).result(0)
    with pytest.raises(exceptions.NotFound):
        copies.look("share-2")


@pytest.mark.parametrize(
    ("size", "gigabytes"),
    [(1, 1), (answers.GIB, 1), (answers.GIB + 1, 2), (300 * 1024**2, 1), (10 * answers.GIB, 10)],
)
def test_parts_of_a_gigabyte_count_as_one(size, gigabytes):
    assert answers.size_gb(size) == gigabytes


def test_managed_server_is_known_by_the_id_that_it_has_here():
    assert answers.server_id({"id": "new", "backend_details": {"id": "old"}}) == "old"
    assert answers.server_id({"id": "new", "backend_details": {}}) == "new"


@pytest.mark.parametrize("identifier", ["server-1", "cs-share-", "cs-share-server-2", "../x", ""])
def test_server_of_another_identifier_is_refused_and_the_text_names_what_there_is(identifier):
    subnet = model.Subnet("net", "192.0.2.0/24")
    server = model.Server(model.ServerSpec("server-1", subnet, "192.0.2.5"), "active", "c0")
    assert answers.by_identifier([server], "cs-share-server-1") == server
    with pytest.raises(exceptions.NotFound, match="cs-share-server-1"):
        answers.by_identifier([server], identifier)
