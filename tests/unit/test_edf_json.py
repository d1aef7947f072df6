# SPDX-License-Identifier: Apache-2.0
"""What arrays answer, as plain values; the shapes are those of v2.1, v2.2 and software 3.3."""

import contextlib
import copy

import hypothesis
import pytest
from hypothesis import strategies as st

from container_stack import exceptions
from container_stack.host import attach
from container_stack.imagestore import edf_bodies, edf_json

UUID = "b1ac5967-12aa-4959-b24c-c60dd40d0a13"
INSTANCE = f"/app_instances/{UUID}"
VOLUME = {
    "path": f"{INSTANCE}/storage_instances/storage-1/volumes/volume-1",
    "name": "volume-1",
    "uuid": "3baa0797-6a69-4db1-9cd8-e79e0b7e5cfc",
    "size": 20,
    "capacity_in_use": 0,
    "replica_count": 2,
    "placement_mode": "hybrid",
    "op_state": "available",
    "snapshots": [],
}
STORAGE = {
    "path": f"{INSTANCE}/storage_instances/storage-1",
    "name": "storage-1",
    "op_state": "available",
    "access": {"path": "", "ips": ["192.0.2.1", "192.0.2.2"], "iqn": "iqn.2013-05.com.daterainc:x"},
    "volumes": [VOLUME],
}
APP = {
    "tenant": "/root",
    "path": INSTANCE,
    "name": "OS-IMAGE-1",
    "id": UUID,
    "uuid": UUID,
    "admin_state": "online",
    "op_state": "available",
    "app_template": {"path": ""},
    "storage_instances": [STORAGE],
    "snapshots": [],
}


def test_an_app_instance_comes_with_its_volume():
    found = edf_json.app_instance(APP)
    assert (found.name, found.uuid, found.path) == ("OS-IMAGE-1", UUID, INSTANCE)
    assert (found.admin_state, found.clone_of) == ("online", "")
    assert (found.volume.size_gib, found.volume.replica_count) == (20, 2)
    assert found.volume.placement == "hybrid"


@pytest.mark.parametrize("key", ["clone_src", "clone_volume_src", "clone_snapshot_src"])
def test_a_clone_tells_its_source(key):
    assert edf_json.app_instance({**APP, key: {"path": "/app_instances/x"}}).clone_of == (
        "/app_instances/x"
    )


@pytest.mark.parametrize(
    "storage",
    [[], None, [{"path": STORAGE["path"]}], [{**STORAGE, "volumes": [{"path": VOLUME["path"]}]}]],
)
def test_an_app_instance_need_not_show_its_volume(storage):
    assert edf_json.app_instance({**APP, "storage_instances": storage}).volume is None


def test_from_3_3_on_a_volume_lies_where_a_policy_says():
    data = {**VOLUME, "placement_policy": {"path": "/placement_policies/all-flash"}}
    del data["placement_mode"]
    assert edf_json.volume(data).placement == "/placement_policies/all-flash"


@pytest.mark.parametrize(
    ("address", "portal"),
    [
        ("192.0.2.1", "192.0.2.1:3260"),
        ("127.0.0.2:13260", "127.0.0.2:13260"),
        ("2001:db8::7", "[2001:db8::7]:3260"),
        ("[2001:db8::7]", "[2001:db8::7]:3260"),
        ("[2001:db8::7]:860", "[2001:db8::7]:860"),
        ("san-1.example.org", "san-1.example.org:3260"),
    ],
)
def test_portals_get_the_port_that_the_array_leaves_out(address, portal):
    data = {**STORAGE, "access": {"ips": [address], "iqn": "iqn.2013-05.com.daterainc:x"}}
    assert edf_json.target(data).portals == (portal,)


@pytest.mark.parametrize(
    "access", [{}, None, {"iqn": "iqn.x:y", "ips": []}, {"ips": ["192.0.2.1"]}]
)
def test_an_offline_volume_has_no_target_yet(access):
    with pytest.raises(exceptions.Busy, match="online"):
        edf_json.target({**STORAGE, "access": access})


def test_chap_secrets_come_back_as_they_went():
    one = attach.Chap("user", "secret-12345")
    both = attach.Chap("user", "secret-12345", "target", "other-123456")
    for chap in (None, one, both):
        assert edf_json.chap(edf_bodies.new_auth(chap)) == chap


@pytest.mark.parametrize("secret", ["", "********"])
def test_a_hidden_chap_secret_is_said_to_be_one(secret):
    data = {"type": "chap", "target_user_name": "user", "target_pswd": secret}
    with pytest.raises(exceptions.AccessDenied, match="keeps the secret"):
        edf_json.chap(data)


def test_metadata_lie_deeper_from_3_3_on():
    assert edf_json.metadata({"length": 17, "type": "image"}) == {"length": "17", "type": "image"}
    assert edf_json.metadata({"name": "x", "data": {"length": "17"}}) == {"length": "17"}


@pytest.mark.parametrize(
    ("about", "limit"), [({"limit": 100}, 100), ({"limit": 0}, 500), (None, 500), ({}, 500)]
)
def test_a_page_is_as_long_as_the_array_says(about, limit):
    assert edf_json.page([{"path": "/a"}], about, 500) == ({"/a": {"path": "/a"}}, limit)


@pytest.mark.parametrize(
    ("mode", "software", "body"),
    [
        ("all_flash", (3, 2, 9), {"placement_mode": "all_flash"}),
        ("all_flash", (3, 3), {"placement_policy": {"path": "/placement_policies/all-flash"}}),
        ("my_own", (3, 3, 1), {"placement_policy": {"path": "/placement_policies/my_own"}}),
        ("/placement_policies/x", (4, 0), {"placement_policy": {"path": "/placement_policies/x"}}),
    ],
)
def test_placement_is_told_as_the_software_wants_it(mode, software, body):
    assert edf_bodies.placement(mode, software) == body


@pytest.mark.parametrize(
    ("source", "key"),
    [
        (INSTANCE, "clone_src"),
        (VOLUME["path"], "clone_volume_src"),
        (f"{VOLUME['path']}/snapshots/1700000000.5", "clone_snapshot_src"),
    ],
)
def test_a_clone_is_asked_for_by_what_its_source_is(source, key):
    assert edf_bodies.new_clone("OS-X", UUID, source)[key] == {"path": source}


@pytest.mark.parametrize(
    ("text", "numbers"), [("3.3.0.1", (3, 3, 0, 1)), ("2.2.7-rc1", (2, 2, 7)), ("dev", ())]
)
def test_versions_are_compared_by_number(text, numbers):
    assert edf_json.version_numbers(text) == numbers


@pytest.mark.parametrize("size", [None, "20", True, [20], float("inf"), float("nan")])
def test_a_size_that_is_no_number_is_an_error_of_ours(size):
    with pytest.raises(exceptions.ArrayUnavailable, match="its size is no number"):
        edf_json.volume({**VOLUME, "size": size})


def test_any_number_is_one():
    assert edf_json.volume({**VOLUME, "size": 10**400}).size_gib == 10**400
    assert edf_json.volume({**VOLUME, "size": 1.25}).size_gib == 2


SHAPES = {
    edf_json.app_instance: APP,
    edf_json.volume: VOLUME,
    edf_json.snapshot: {"path": f"{VOLUME['path']}/snapshots/1.5", "timestamp": "1.5", "uuid": ""},
    edf_json.system: {"name": "edf", "sw_version": "2.2.0", "total_capacity": 7},
    edf_json.target: STORAGE,
    edf_json.chap: {"type": "chap", "target_user_name": "u", "target_pswd": "p"},
    edf_json.metadata: {"data": {"length": "1"}},
    lambda data: edf_json.page(data, None, 500): [{"path": "/a"}],
}
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)


@hypothesis.given(shape=st.sampled_from(list(SHAPES.items())), junk=JUNK, data=st.data())
def test_any_other_shape_is_an_error_of_ours(shape, junk, data):
    parse, good = shape
    bad = _damaged(copy.deepcopy(good), junk, data)
    with contextlib.suppress(exceptions.ContainerStackError):
        parse(bad)


def _damaged(value, junk, data):
    """Return the value with one part of it, anywhere, replaced or removed."""
    if not isinstance(value, dict | list) or not value or data.draw(st.integers(0, 3)) == 0:
        return junk
    steps = list(value) if isinstance(value, dict) else list(range(len(value)))
    step = data.draw(st.sampled_from(steps))
    if isinstance(value, dict) and data.draw(st.booleans()) and data.draw(st.booleans()):
        del value[step]
    else:
        value[step] = _damaged(value[step], junk, data)
    return value
