# SPDX-License-Identifier: Apache-2.0
"""The Swift in memory against the public suite, and what goes wrong in it on demand."""

import pytest

from container_stack import exceptions
from container_stack.storlets import objects
from container_stack.testing import object_contract, object_world
from container_stack.testing import objects as memory


class TestMemoryObjects(object_contract.ObjectContract):
    @pytest.fixture
    def users(self):
        owner = memory.MemoryObjects("AUTH_305f5f3d", "305f5f3d:manager")
        guest = owner.to("AUTH_305f5f3d", "ops:deployer")
        return object_world.Users(owner, guest, "ops:deployer", guest.to("AUTH_ops"))


@pytest.fixture
def store():
    made = memory.MemoryObjects()
    made.set_container("c", {})
    made.write("c", "a", b"x" * 1000)
    return made


def test_fault_strikes_what_it_is_meant_for_and_is_over(store):
    error = exceptions.ServiceUnavailable("No.")
    store.faults.append(memory.Fault(error, "write", prefix="c/b", skip=1, times=2))
    store.write("c", "a", b"another name")
    store.write("c", "b", b"passes")
    for _time in range(2):
        with pytest.raises(exceptions.ServiceUnavailable):
            store.write("c", "b", b"fails")
    assert b"".join(store.read("c", "b")) == b"passes"
    store.write("c", "b", b"over")
    assert store.faults == []


def test_lost_answer_is_one_to_what_was_done(store):
    store.faults.append(memory.Fault(exceptions.ServiceUnavailable("No."), "remove", done=True))
    with pytest.raises(exceptions.ServiceUnavailable):
        store.remove("c", "a")
    with pytest.raises(exceptions.NotFound):
        store.head("c", "a")


def test_read_breaks_off_where_it_is_told_to(store):
    store.faults.append(memory.Fault(exceptions.ServiceUnavailable("No."), "read", after=10))
    read = store.read("c", "a")
    assert next(read) == b"x" * 10
    with pytest.raises(exceptions.ServiceUnavailable):
        next(read)


def test_too_small_segments_are_refused(store):
    store.cloud.min_segment = 1001
    segment = objects.Segment("c", "a", store.head("c", "a").etag, 1000)
    with pytest.raises(exceptions.InvalidRequest, match="small"):
        store.write_manifest("c", "b", [segment])


def test_plain_member_of_an_account_is_a_guest(store):
    member = store.to("AUTH_test", "test:member", admin=False)
    with pytest.raises(exceptions.AccessDenied):
        member.head("c", "a")
    store.set_container("c", {"X-Container-Read": "test"})
    assert member.head("c", "a").size == 1000


def test_requests_are_remembered(store):
    store.cloud.requests.clear()
    list(store.to("AUTH_test", "test:x").list("c"))
    (request,) = store.cloud.requests
    assert (request.operation, request.user, request.container) == ("list", "test:x", "c")
