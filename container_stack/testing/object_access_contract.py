# SPDX-License-Identifier: Apache-2.0
"""The part of the object stores' suite about segments, containers, accounts and users."""

import dataclasses
import uuid

import pytest

from container_stack import exceptions
from container_stack.storlets import objects
from container_stack.testing import object_world
from container_stack.testing.object_world import (
    DATA,
    Users,
    make_segments,
    owning,
    reading,
    writing,
)


class AccessContract(object_world.ObjectFixtures):
    """What segments are made of, and who may do what."""

    # Segments ------------------------------------------------------------------------------

    def test_segmented_object_is_its_segments_in_order(
        self, store: objects.ObjectStore, container: str
    ) -> None:
        made = make_segments(store, container)
        metadata = {"image-name": "b"}
        store.write_manifest(container, "a", made, metadata=metadata, content_type="x/y")
        found = store.head(container, "a")
        assert (found.size, found.segmented) == (len(DATA), True)
        assert (found.metadata, found.content_type) == (metadata, "x/y")
        assert b"".join(store.read(container, "a")) == DATA
        assert (
            b"".join(store.read(container, "a", 99_990, 70_000, etag=found.etag))
            == (DATA[99_990:169_990])
        )
        assert list(store.segments(container, "a")) == made
        listed = {each.name: each for each in store.list(container)}["a"]
        assert (listed.size, listed.etag) == (found.size, found.etag)
        store.set_metadata(container, "a", {"other": "c"})
        assert store.head(container, "a").segmented

    def test_segmented_object_is_removed_with_its_segments(
        self, store: objects.ObjectStore, container: str
    ) -> None:
        store.write_manifest(container, "a", make_segments(store, container))
        store.write(container, "seg", b"of somebody else")
        store.remove(container, "a")
        store.remove(container, "a")
        assert [each.name for each in store.list(container)] == ["seg"]

    def test_manifest_of_what_is_not_there_is_refused_and_changes_nothing(
        self, store: objects.ObjectStore, container: str
    ) -> None:
        made = make_segments(store, container)
        store.write(container, "a", b"old")
        for wrong in (
            dataclasses.replace(made[1], name="seg/9"),
            dataclasses.replace(made[1], etag="0" * 32),
            dataclasses.replace(made[1], size=made[1].size + 1),
        ):
            with pytest.raises(exceptions.InvalidRequest):
                store.write_manifest(container, "a", [made[0], wrong])
        with pytest.raises(exceptions.InvalidRequest):
            store.write_manifest(container, "a", [])
        assert b"".join(store.read(container, "a")) == b"old"

    def test_plain_object_has_no_segments(self, store: objects.ObjectStore, container: str) -> None:
        store.write(container, "a", DATA)
        with pytest.raises(exceptions.InvalidRequest):
            store.segments(container, "a")

    def test_object_that_lost_a_segment_is_not_read(
        self, store: objects.ObjectStore, container: str
    ) -> None:
        made = make_segments(store, container)
        store.write_manifest(container, "a", made)
        store.remove(container, made[0].name)
        with pytest.raises(exceptions.Busy):
            list(store.read(container, "a"))
        store.remove(container, "a")
        assert list(store.list(container)) == []

    # Containers and accounts ---------------------------------------------------------------

    def test_container_is_made_once_and_keeps_its_headers(
        self, store: objects.ObjectStore, container: str
    ) -> None:
        store.write(container, "a", DATA)
        store.set_container(container, {"X-Container-Meta-Colour": "red"})
        store.set_container(container, {"X-Container-Read": "a:b, c:d", "X-Container-Write": "e"})
        found = store.container(container)
        assert found["x-container-meta-colour"] == "red"
        assert (found["x-container-read"], found["x-container-write"]) == ("a:b,c:d", "e")
        assert b"".join(store.read(container, "a")) == DATA
        store.set_container(container, {"X-Container-Read": "", "X-Container-Meta-Colour": ""})
        found = store.container(container)
        assert not found.get("x-container-read")
        assert "x-container-meta-colour" not in found
        assert found["x-container-write"] == "e"

    def test_full_container_takes_no_more(self, store: objects.ObjectStore, container: str) -> None:
        store.set_container(container, {"X-Container-Meta-Quota-Bytes": "7"})
        with pytest.raises(exceptions.NoSpace):
            store.write(container, "a", b"12345678", size=8)
        store.write(container, "a", b"1234567", size=7)

    def test_account_keeps_its_headers(self, store: objects.ObjectStore) -> None:
        name = f"X-Account-Meta-Cstest-{uuid.uuid4().hex[:8]}"
        store.set_account({name: "True"})
        assert store.account_headers()[name.lower()] == "True"
        store.set_account({name: ""})
        assert name.lower() not in store.account_headers()

    # Users ---------------------------------------------------------------------------------

    def test_guest_may_do_nothing(self, users: Users, container: str) -> None:
        users.owner.write(container, "a", b"kept")
        assert users.guest.account == users.owner.account != users.own.account
        for action in (*reading(users.guest, container), *writing(users.guest, container)):
            with pytest.raises(exceptions.AccessDenied):
                action()
        for action in owning(users.guest, container):
            with pytest.raises(exceptions.AccessDenied):
                action()
        assert b"".join(users.owner.read(container, "a")) == b"kept"

    def test_guest_who_may_read_may_not_write(self, users: Users, container: str) -> None:
        users.owner.write(container, "a", b"kept")
        users.owner.set_container(container, {"X-Container-Read": f"x:y,{users.guest_acl}"})
        for action in reading(users.guest, container):
            action()
        assert "x-container-read" not in users.guest.container(container)
        for action in (*writing(users.guest, container), *owning(users.guest, container)):
            with pytest.raises(exceptions.AccessDenied):
                action()
        with pytest.raises(exceptions.AccessDenied):
            users.guest.remove(container, "a")

    def test_guest_who_may_write_may_not_read(self, users: Users, container: str) -> None:
        users.owner.write(container, "a", b"kept")
        users.owner.set_container(container, {"X-Container-Write": users.guest_acl})
        for action in (*reading(users.guest, container), *owning(users.guest, container)):
            with pytest.raises(exceptions.AccessDenied):
                action()
        for action in writing(users.guest, container):
            action()

    def test_segmented_object_needs_access_to_its_segments_too(
        self, users: Users, container: str, store: objects.ObjectStore
    ) -> None:
        both = {"X-Container-Read": users.guest_acl, "X-Container-Write": users.guest_acl}
        store.set_container(container, both)
        apart = f"{container}_segments"
        store.set_container(apart, {"X-Container-Write": users.guest_acl})
        made = make_segments(store, apart)
        store.write_manifest(container, "a", made)
        assert users.guest.head(container, "a").size == len(DATA)
        with pytest.raises(exceptions.Busy):
            list(users.guest.read(container, "a"))
        with pytest.raises(exceptions.InvalidRequest):
            users.guest.write_manifest(container, "b", made)
        store.set_container(apart, both)
        assert b"".join(users.guest.read(container, "a")) == DATA
        users.guest.write_manifest(container, "b", made)
        assert b"".join(store.read(container, "b")) == DATA
        users.guest.remove(container, "a")
        assert list(store.list(apart)) == []
