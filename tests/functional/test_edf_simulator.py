# SPDX-License-Identifier: Apache-2.0
"""The simulated array as foreign clients find it: Datera's public SDK, and plain requests."""

import collections
import collections.abc
import random
import re
import threading
import time
import uuid

import pytest
import requests

from container_stack import exceptions
from container_stack.host import attach, attach_libiscsi, sparse
from container_stack.testing.edf import simulator

MIB, GIB = 1024**2, 1024**3
ME = "iqn.2026-11.test:me"
PASSWORD = "cstest-limpet-3391"
#: What arrays of 2.2 and of 3.3 put where volumes lie.
HYBRID = {
    "2.2.0": {"placement_mode": "hybrid"},
    "3.3.0": {"placement_policy": {"path": "/placement_policies/default"}},
}


@pytest.fixture
def address() -> str:
    """An address of the test's own: the SDK knows no ports but 7717 and 7718."""
    return "127." + ".".join(str(random.randint(1, 250)) for _ in range(3))


@pytest.fixture
def sdk(monkeypatch, tmp_path):
    """A function that logs in to an array with Datera's SDK."""
    # Its last version wants what Python 3.10 took away.
    monkeypatch.setattr(collections, "Mapping", collections.abc.Mapping, raising=False)
    import dfs_sdk

    def get(array, version="v2.2", **options):
        values = {"disable_log": True, "schema_loc": str(tmp_path / f"schema-{version}")}
        return dfs_sdk.get_api(
            array.address, array.login, array.password, version, **{**values, **options}
        )

    get.errors = dfs_sdk
    return get


def wait(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def head(file, length):
    with file.open("rb") as opened:
        return opened.read(length)


def new_image(name, sw_version="2.2.0", **values):
    volume = {"name": "volume-1", "size": 1, "replica_count": 2, "snapshot_policies": []}
    return {
        "create_mode": "openstack",
        "uuid": str(uuid.uuid4()),
        "name": name,
        "access_control_mode": "deny_all",
        "storage_instances": [
            {"name": "storage-1", "volumes": [{**volume, **HYBRID[sw_version], **values}]}
        ],
    }


def device(access, chap=None):
    target = attach.Target(access["iqn"], tuple(access["ips"]), chap=chap)
    return attach_libiscsi.LibiscsiAttacher.open(attach.Options(initiator=ME)).attach(target)


#: The SDK never checks certificates, and is as old as its last release.
pytestmark = pytest.mark.filterwarnings("ignore:Unverified", "ignore:The 'warn' method")


# Datera's SDK -------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "sw_version"), [("v2.1", "2.2.0"), ("v2.2", "3.3.0")])
def test_sdk_stores_an_image_and_clones_it(tmp_path, address, sdk, version, sw_version):
    with simulator.Simulator(
        tmp_path / "array", address=address, port=7718, sw_version=sw_version
    ) as array:
        api = sdk(array, version)
        api.tenants.create(name="images")
        tenant = "/root/images"
        made = api.app_instances.create(**new_image("OS-IMAGE-1", sw_version), tenant=tenant)
        assert (made["admin_state"], made["op_state"]) == ("offline", "unavailable")
        made.set(admin_state="online", tenant=tenant)
        (storage,) = made.storage_instances.list(tenant=tenant)
        with pytest.raises(sdk.errors.ApiNotFoundError):
            api.initiators.get(ME, tenant=tenant)
        initiator = api.initiators.create(id=ME, name="a host", tenant=tenant)
        acl = storage.acl_policy.get(tenant=tenant)
        assert (acl["initiators"], acl["initiator_groups"]) == ([], [])
        storage.acl_policy.set(
            initiators=[{"path": initiator["path"]}], initiator_groups=[], tenant=tenant
        )
        wait(lambda: storage.reload(tenant=tenant)["op_state"] == "available")
        with device(storage.reload(tenant=tenant)["access"]) as disk:
            assert disk.size == GIB
            disk.write(GIB - 3 * MIB - 1, b"some bytes")
            disk.flush()
        (volume,) = storage.volumes.list(tenant=tenant)
        volume.set(size=3, tenant=tenant)
        wait(lambda: volume.reload(tenant=tenant)["op_status"] != "resizing")
        assert volume.reload(tenant=tenant)["size"] == 3
        made.set(admin_state="offline", force=True, tenant=tenant)
        made.metadata.set(checksum="abc", length="10", type="image", tenant=tenant)
        noted = made.metadata.get(tenant=tenant)
        noted = noted["data"] if sw_version == "3.3.0" else noted
        assert {key: noted[key] for key in ("checksum", "length", "type")} == {
            "checksum": "abc",
            "length": "10",
            "type": "image",
        }
        snapshot = volume.snapshots.create(tenant=tenant)
        wait(lambda: snapshot.reload(tenant=tenant)["op_state"] == "available")
        source = {"path": snapshot["path"]}
        clone = api.app_instances.create(
            name="clone-1", clone_snapshot_src=source, create_mode="openstack", tenant=tenant
        )
        clone.set(admin_state="online", tenant=tenant)
        (copied,) = clone.storage_instances.list(tenant=tenant)
        copied.acl_policy.set(
            initiators=[{"path": initiator["path"]}], initiator_groups=[], tenant=tenant
        )
        wait(lambda: copied.reload(tenant=tenant)["op_state"] == "available")
        with device(copied.reload(tenant=tenant)["access"]) as disk:
            assert disk.size == 3 * GIB
            assert disk.read(GIB - 3 * MIB - 1, 10) == b"some bytes"
        names = [each["name"] for each in api.app_instances.list(tenant=tenant)]
        assert sorted(names) == ["OS-IMAGE-1", "clone-1"]
        filtered = api.app_instances.list(filter="match(name,.*IMAGE.*)", tenant=tenant)
        assert [each["name"] for each in filtered] == ["OS-IMAGE-1"]
        clone.set(admin_state="offline", force=True, tenant=tenant)
        for each in (clone, made):
            each.delete(tenant=tenant, force=True)
        assert api.app_instances.list(tenant=tenant) == []
        with pytest.raises(sdk.errors.ApiNotFoundError):
            api.app_instances.get("OS-IMAGE-1", tenant=tenant)
    assert not list((tmp_path / "array").glob("volumes/*"))
    assert not list((tmp_path / "array").glob("snapshots/*"))


def test_sdk_gets_the_errors_that_it_knows(tmp_path, address, sdk):
    with simulator.Simulator(
        tmp_path / "array", address=address, port=7717, tls=False, target="file"
    ) as array:
        api = sdk(array, secure=False)
        api.app_instances.create(**new_image("OS-IMAGE-1"))
        with pytest.raises(sdk.errors.ApiConflictError) as taken:
            api.app_instances.create(**new_image("OS-IMAGE-1"))
        assert (taken.value.name, taken.value.http) == ("ConflictError", 409)
        with pytest.raises(sdk.errors.exceptions.ApiValidationFailedError):
            api.app_instances.create(**new_image("OS-IMAGE-2", size=0))
        with pytest.raises(sdk.errors.ApiNotFoundError) as absent:
            api.app_instances.get("OS-IMAGE-3")
        assert absent.value.message.startswith("No data at ")
        with pytest.raises(sdk.errors.ApiAuthError):
            sdk(array, secure=False, tenant="/root").context.connection.login(
                name="admin", password="wrong"
            )


def test_sdk_logs_in_again_and_retries(tmp_path, address, sdk):
    with simulator.Simulator(
        tmp_path / "array", address=address, port=7718, target="file"
    ) as array:
        api = sdk(array)
        array.faults.expire_keys()
        assert api.app_instances.list() == []
        array.faults.http_error(503, times=1, path="/app_instances")
        assert api.app_instances.list() == []
        array.faults.drop_reply(path="/app_instances")
        made = api.app_instances.create(**new_image("OS-IMAGE-1"))
        assert made["name"] == "OS-IMAGE-1"
        assert len(array.app_instances()) == 1


def test_sdk_gathers_all_pages(tmp_path, address, sdk):
    with simulator.Simulator(
        tmp_path / "array", address=address, port=7718, target="file", capacity=2**60
    ) as array:
        api = sdk(array)
        for number in range(23):
            api.app_instances.create(**new_image(f"OS-IMAGE-{number:02}"))
        found = api.app_instances.list(limit=10)
        assert len(found) == 10
        assert len({each["name"] for each in api.app_instances.list()}) == 23


# Plain requests: what things look like ------------------------------------------------------


class Rest:
    """Requests as they are."""

    def __init__(self, array, version="v2.2"):
        self.url = f"https://{array.address}:{array.port}"
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = array.ca_file
        self.version = version
        login = {"name": array.login, "password": array.password}
        self.session.headers["Auth-Token"] = self.call("PUT", "/login", login).json()["key"]

    def call(self, method, path, body=None, **options):
        url = f"{self.url}/{self.version}{path}"
        return self.session.request(method, url, json=body, timeout=10, **options)

    def data(self, method, path, body=None, **options):
        answered = self.call(method, path, body, **options)
        assert answered.ok, answered.text
        return answered.json()["data"]


@pytest.fixture
def array(tmp_path):
    with simulator.Simulator(tmp_path / "array", target="file", password=PASSWORD) as array:
        yield array


@pytest.fixture
def rest(array):
    return Rest(array)


NAME = "OS-IMAGE-1"
INSTANCE = f"/app_instances/{NAME}"
STORAGE = f"{INSTANCE}/storage_instances/storage-1"
VOLUME = f"{STORAGE}/volumes/volume-1"


@pytest.fixture
def image(rest):
    return rest.data("POST", "/app_instances", new_image(NAME))


def test_login_is_bare(array, rest):
    body = {"name": array.login, "password": array.password}
    answered = rest.call("PUT", "/login", body).json()
    assert set(answered) == {"key", "version", "request_time"}
    assert answered["version"] == "v2.2"


def test_versions_need_no_key(array, rest):
    found = requests.get(f"{rest.url}/api_versions", verify=array.ca_file, timeout=10).json()
    assert {"v2.1", "v2.2"} <= set(found["api_versions"])


def test_everything_else_comes_in_an_envelope(rest):
    one = rest.call("GET", "/system").json()
    assert set(one) == {"tenant", "path", "version", "data", "request_time"}
    assert (one["tenant"], one["path"], one["version"]) == ("/root", "/system", "v2.2")
    assert one["data"]["sw_version"] == "2.2.0"
    many = rest.call("GET", "/app_instances").json()
    assert many["data"] == []
    assert set(many["metadata"]) == {"total_count", "request_count", "limit", "offset"}


def test_app_instance_has_its_shape(rest, image):
    assert set(image) >= {
        *("path", "name", "id", "uuid", "health", "app_template", "descr", "admin_state"),
        *("create_mode", "storage_instances", "snapshots", "op_state"),
    }
    assert image["id"] == image["uuid"]
    assert image["path"] == f"/app_instances/{image['uuid']}"
    assert rest.data("GET", image["path"]) == rest.data("GET", INSTANCE)


def test_storage_instance_has_its_shape(rest, image):
    rest.data("PUT", INSTANCE, {"admin_state": "online"})
    wait(lambda: rest.data("GET", STORAGE)["op_state"] == "available")
    found = rest.data("GET", STORAGE)
    assert set(found) >= {
        *("name", "path", "uuid", "admin_state", "op_state", "volumes", "access_control_mode"),
        *("acl_policy", "ip_pool", "access", "auth", "active_initiators"),
    }
    assert set(found["access"]) == {"path", "ips", "iqn"}
    assert len(found["access"]["ips"]) == 2
    assert re.fullmatch(r"iqn\.2013-05\.com\.daterainc:[\w:.\-]+", found["access"]["iqn"])
    assert found["auth"]["type"] == "none"
    assert rest.data("GET", f"{INSTANCE}/storage_instances") == [found]
    assert rest.data("GET", INSTANCE)["storage_instances"] == [found]


def test_volume_has_its_shape(rest, image):
    found = rest.data("GET", VOLUME)
    assert set(found) >= {
        *("name", "path", "uuid", "size", "replica_count", "placement_mode", "capacity_in_use"),
        *("op_state", "op_status", "snapshots"),
    }
    assert (found["size"], found["replica_count"], found["placement_mode"]) == (1, 2, "hybrid")
    assert found["capacity_in_use"] == 0
    assert rest.data("GET", f"{STORAGE}/volumes") == [found]


def test_snapshot_has_its_shape(rest, image):
    wanted = str(uuid.uuid4())
    found = rest.data("POST", f"{VOLUME}/snapshots", {"uuid": wanted})
    assert set(found) == {"path", "timestamp", "uuid", "op_state", "utc_ts"}
    assert re.fullmatch(r"\d+\.\d+", found["timestamp"])
    assert found["uuid"] == wanted
    wait(lambda: rest.data("GET", found["path"])["op_state"] == "available")
    assert [each["uuid"] for each in rest.data("GET", f"{VOLUME}/snapshots")] == [wanted]
    assert rest.call("POST", f"{VOLUME}/snapshots", {"uuid": wanted}).status_code == 409
    rest.data("DELETE", found["path"])
    assert rest.call("GET", found["path"]).status_code == 404


def test_metadata_are_what_was_put_last(rest, image):
    assert rest.data("GET", f"{INSTANCE}/metadata") == {}
    rest.data("PUT", f"{INSTANCE}/metadata", {"length": "12", "type": "image"})
    assert rest.data("GET", f"{INSTANCE}/metadata") == {"length": "12", "type": "image"}
    assert rest.call("GET", f"{INSTANCE}/int_ecosystem_data").status_code == 404


def test_software_3_3_keeps_metadata_and_placement_elsewhere(tmp_path):
    with simulator.Simulator(tmp_path, target="file", sw_version="3.3.0") as array:
        rest = Rest(array)
        rest.data("POST", "/app_instances", new_image(NAME, "3.3.0"))
        assert rest.call("GET", f"{INSTANCE}/metadata").status_code == 404
        rest.data("PUT", f"{INSTANCE}/int_ecosystem_data", {"data": {"length": "12"}})
        assert rest.data("GET", f"{INSTANCE}/int_ecosystem_data")["data"] == {"length": "12"}
        volume = rest.data("GET", VOLUME)
        assert volume["placement_policy"] == {"path": "/placement_policies/default"}
        assert "placement_mode" not in volume
        assert rest.call("POST", "/app_instances", new_image("OS-IMAGE-2")).status_code == 422


def test_initiators_belong_to_tenants_and_only_v2_2_forces_them(array, rest):
    for name in ("one", "two"):
        rest.data("POST", "/tenants", {"name": name})
    body = {"id": ME, "name": "a host"}
    one, two = {"tenant": "/root/one"}, {"tenant": "/root/two"}
    made = rest.data("POST", "/initiators", body, headers=one)
    assert set(made) >= {"path", "id", "name"}
    assert made["path"] == f"/initiators/{ME}"
    assert rest.call("POST", "/initiators", body, headers=one).status_code == 409
    assert rest.call("POST", "/initiators", body, headers=two).status_code == 409
    old = Rest(array, "v2.1")
    forced = {**body, "force": True}
    assert old.call("POST", "/initiators", forced, headers=two).status_code == 422
    assert rest.call("POST", "/initiators", forced, headers=two).ok
    assert rest.data("DELETE", made["path"], headers=two)["id"] == ME
    # What is left is the other tenant's, which everybody may see.
    assert rest.data("GET", made["path"], headers=two)["tenant"] == "/root/one"


def test_tenants_see_their_own(rest, image):
    rest.data("POST", "/tenants", {"name": "images"})
    assert rest.call("POST", "/tenants", {"name": "images"}).status_code == 409
    other = {"tenant": "/root/images"}
    assert rest.call("GET", INSTANCE, headers=other).status_code == 404
    assert rest.data("GET", "/app_instances", headers=other) == []
    assert rest.call("POST", "/app_instances", new_image(NAME), headers=other).ok
    assert rest.call("GET", "/app_instances", headers={"tenant": "/root/no"}).status_code == 404
    assert rest.call("DELETE", "/tenants/root/images").status_code == 409


def test_access_list_names_initiators_that_exist(rest, image):
    absent = {"initiators": [{"path": f"/initiators/{ME}"}], "initiator_groups": []}
    assert rest.call("PUT", f"{STORAGE}/acl_policy", absent).status_code == 404
    rest.data("POST", "/initiators", {"id": ME, "name": "a host"})
    rest.data("PUT", f"{STORAGE}/acl_policy", absent)
    assert rest.data("GET", f"{STORAGE}/acl_policy")["initiators"] == absent["initiators"]
    assert rest.call("DELETE", f"/initiators/{ME}").status_code == 409


# Plain requests: what is refused ------------------------------------------------------------


def test_error_has_its_shape(rest):
    answered = rest.call("GET", "/app_instances/absent")
    assert answered.status_code == 404
    said = answered.json()
    assert set(said) == {
        *("name", "code", "http", "message", "ts", "version", "op", "tenant", "path"),
        *("api_req_id", "errors"),
    }
    assert (said["name"], said["http"]) == ("NotFoundError", 404)
    assert (said["version"], said["tenant"]) == ("v2.2", "/root")
    assert said["message"].startswith("No data at ")


def test_who_has_no_key_or_an_old_one_is_refused(array, rest):
    array.faults.expire_keys()
    for headers in ({}, {"Auth-Token": "0" * 32}, {"Auth-Token": ""}):
        answered = rest.call("GET", "/app_instances", headers=headers)
        assert answered.status_code == 401
        assert answered.json()["name"] == "AuthFailedError"
        assert answered.json()["message"] == (
            "The key provided with the request does not correspond to a valid session."
        )


def test_keys_live_as_long_as_they_may(tmp_path):
    with simulator.Simulator(tmp_path, target="file", key_lifetime=0.5) as array:
        rest = Rest(array)
        assert rest.call("GET", "/system").ok
        time.sleep(0.6)
        assert rest.call("GET", "/system").status_code == 401


@pytest.mark.parametrize(
    "change",
    [
        {"name": "ab"},
        {"name": "1st"},
        {"name": "x" * 65},
        {"surprise": 1},
        {"uuid": "none"},
        {"access_control_mode": "maybe"},
        {"storage_instances": []},
        {"storage_instances": [{"name": "storage-1", "volumes": [], "surprise": 1}]},
    ],
)
def test_body_that_is_not_right_is_refused(rest, change):
    assert rest.call("POST", "/app_instances", {**new_image(NAME), **change}).status_code == 422
    assert rest.data("GET", "/app_instances") == []


@pytest.mark.parametrize(
    "change", [{"size": 0}, {"size": 32769}, {"size": "1"}, {"replica_count": 6}, {"surprise": 1}]
)
def test_volume_that_is_not_right_is_refused(rest, change):
    assert rest.call("POST", "/app_instances", new_image(NAME, **change)).status_code == 422
    assert rest.data("GET", "/app_instances") == []


def test_what_is_no_json_is_refused(rest):
    for text in (b"{", b"[1]", b'"text"', b"\xff"):
        answered = rest.session.post(f"{rest.url}/v2.2/app_instances", data=text, timeout=10)
        assert answered.status_code in (400, 422)
        assert answered.json()["http"] == answered.status_code


def test_method_that_a_path_does_not_know_is_refused(rest):
    assert rest.call("DELETE", "/system").status_code == 405
    assert rest.call("GET", "/nothing/here").status_code == 404


def test_volume_does_not_shrink(rest, image):
    rest.data("PUT", VOLUME, {"size": 5})
    assert rest.call("PUT", VOLUME, {"size": 4}).status_code == 422
    assert rest.data("GET", VOLUME)["size"] == 5


def test_what_is_online_is_not_deleted(rest, image):
    rest.data("PUT", INSTANCE, {"admin_state": "online"})
    assert rest.call("DELETE", INSTANCE).status_code == 400
    rest.data("PUT", INSTANCE, {"admin_state": "offline", "force": True})
    rest.data("DELETE", INSTANCE)
    assert rest.call("DELETE", INSTANCE).status_code == 404


def test_full_array_takes_nothing_new(tmp_path):
    with simulator.Simulator(tmp_path, target="file", capacity=3 * GIB) as array:
        rest = Rest(array)
        assert rest.call("POST", "/app_instances", new_image(NAME, size=2)).ok
        second = rest.call("POST", "/app_instances", new_image("OS-IMAGE-2", size=2))
        assert second.status_code == 422
        assert "space" in second.json()["message"]
        assert not rest.call("PUT", VOLUME, {"size": 4}).ok
        assert rest.call("PUT", VOLUME, {"size": 3}).ok
        assert len(rest.data("GET", "/app_instances")) == 1


# Plain requests: lists ----------------------------------------------------------------------


def test_lists_are_filtered_sorted_and_cut(rest):
    for name in ("OS-IMAGE-b", "OS-IMAGE-a", "other-1", "OS-IMAGE-c"):
        rest.data("POST", "/app_instances", new_image(name))

    def names(**params):
        return [each["name"] for each in rest.data("GET", "/app_instances", params=params)]

    assert names(sort="name") == ["OS-IMAGE-a", "OS-IMAGE-b", "OS-IMAGE-c", "other-1"]
    assert names(sort="name", limit=2, offset=1) == ["OS-IMAGE-b", "OS-IMAGE-c"]
    images = {"filter": "match(name,.*OS-IMAGE-.*)", "sort": "name"}
    assert names(**images, limit=2) == ["OS-IMAGE-a", "OS-IMAGE-b"]
    assert names(**images, limit=2, offset=2) == ["OS-IMAGE-c"]
    assert rest.call("GET", "/app_instances", params={"limit": 1001}).status_code == 400
    assert rest.call("GET", "/app_instances", params={"filter": "nonsense"}).status_code == 400


# Clones and snapshots -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["clone_src", "clone_volume_src", "clone_snapshot_src"])
def test_clone_has_the_bytes_of_its_source_and_then_its_own(array, rest, image, kind):
    def file(name):
        found = rest.data("GET", f"/app_instances/{name}")["storage_instances"][0]["volumes"][0]
        return array.directory / "volumes" / f"{found['uuid']}.img"

    with file(NAME).open("r+b") as volume:
        volume.write(b"first")
    snapshot = rest.data("POST", f"{VOLUME}/snapshots", {})
    path = {
        "clone_src": image["path"],
        "clone_volume_src": image["storage_instances"][0]["volumes"][0]["path"],
        "clone_snapshot_src": snapshot["path"],
    }[kind]
    rest.data("POST", "/app_instances", {"name": "clone-1", kind: {"path": path}})
    array.settle()
    with file("clone-1").open("r+b") as volume:
        assert volume.read(5) == b"first"
        volume.seek(0)
        volume.write(b"clone")
    assert head(file(NAME), 5) == b"first"


def test_snapshot_is_put_back(array, rest, image):
    uuid_ = image["storage_instances"][0]["volumes"][0]["uuid"]
    file = array.directory / "volumes" / f"{uuid_}.img"
    with file.open("r+b") as volume:
        volume.write(b"first")
    snapshot = rest.data("POST", f"{VOLUME}/snapshots", {})
    array.settle()
    with file.open("r+b") as volume:
        volume.write(b"second")
    rest.data("PUT", VOLUME, {"restore_point": snapshot["timestamp"]})
    assert head(file, 7) == b"first\0\0"
    assert file.stat().st_size == GIB
    assert rest.call("PUT", VOLUME, {"restore_point": "1.5"}).status_code == 404


def write_much(file):
    """Write what takes longer to copy than a request takes; return its last byte's place."""
    with file.open("r+b") as volume:
        for _ in range(300):
            volume.write(random.randbytes(MIB))
    return 300 * MIB - 1


def test_snapshot_that_is_still_copied_does_not_see_what_is_written_next(tmp_path, monkeypatch):
    with simulator.Simulator(tmp_path) as array:
        rest = Rest(array)
        image = rest.data("POST", "/app_instances", new_image(NAME))
        rest.data("PUT", INSTANCE, {"admin_state": "online"})
        rest.data("POST", "/initiators", {"id": ME, "name": "a host"})
        uuid_ = image["storage_instances"][0]["volumes"][0]["uuid"]
        file = array.directory / "volumes" / f"{uuid_}.img"
        last = write_much(file)
        answered, copy = threading.Event(), sparse.copy
        with monkeypatch.context() as patched:
            patched.setattr(sparse, "copy", lambda *a, **o: answered.wait(60) and copy(*a, **o))
            snapshot = rest.data("POST", f"{VOLUME}/snapshots", {})
        assert snapshot["op_state"] == "pending"
        answered.set()
        acl = {"initiators": [{"path": f"/initiators/{ME}"}], "initiator_groups": []}
        rest.data("PUT", f"{STORAGE}/acl_policy", acl)
        with device(rest.data("GET", STORAGE)["access"]) as disk:
            old = disk.read(last, 1)
            disk.write(last, b"?")
        (kept,) = (array.directory / "snapshots").iterdir()
        with kept.open("rb") as opened:
            opened.seek(last)
            assert opened.read(1) == old
        rest.data("DELETE", snapshot["path"])
        assert not list((array.directory / "snapshots").iterdir())


@pytest.mark.parametrize("what", ["the snapshot", "the app instance"])
def test_what_is_deleted_while_it_is_copied_leaves_nothing(tmp_path, what):
    with simulator.Simulator(tmp_path, target="file") as array:
        rest = Rest(array)
        image = rest.data("POST", "/app_instances", new_image(NAME))
        uuid_ = image["storage_instances"][0]["volumes"][0]["uuid"]
        write_much(array.directory / "volumes" / f"{uuid_}.img")
        snapshot = rest.data("POST", f"{VOLUME}/snapshots", {})
        rest.data("DELETE", snapshot["path"] if what == "the snapshot" else INSTANCE)
    assert not list((tmp_path / "snapshots").iterdir())


# Access by iSCSI ----------------------------------------------------------------------------


def test_chap_and_access_list_reach_the_target(tmp_path):
    with simulator.Simulator(tmp_path) as array:
        rest = Rest(array)
        rest.data("POST", "/app_instances", new_image(NAME))
        rest.data("PUT", INSTANCE, {"admin_state": "online"})
        rest.data("POST", "/initiators", {"id": ME, "name": "a host"})
        access = rest.data("GET", STORAGE)["access"]
        with pytest.raises(exceptions.ContainerStackError):
            device(access)
        acl = {"initiators": [{"path": f"/initiators/{ME}"}], "initiator_groups": []}
        rest.data("PUT", f"{STORAGE}/acl_policy", acl)
        auth = {"type": "chap", "target_user_name": "user-1", "target_pswd": "limpet-and-oyster"}
        rest.data("PUT", f"{STORAGE}/auth", auth)
        with pytest.raises(exceptions.AccessDenied):
            device(access)
        with device(access, attach.Chap("user-1", "limpet-and-oyster")) as disk:
            disk.write(0, b"in")
            rest.data("PUT", INSTANCE, {"admin_state": "offline", "force": True})
            rest.data("PUT", INSTANCE, {"admin_state": "online"})
            assert disk.read(0, 2) == b"in"
        rest.data("PUT", f"{STORAGE}/auth", {"type": "none"})
        device(access).close()


# Restarts -----------------------------------------------------------------------------------


def test_array_knows_everything_after_a_restart(tmp_path):
    with simulator.Simulator(tmp_path) as array:
        rest = Rest(array)
        rest.data("POST", "/tenants", {"name": "images"})
        rest.data("POST", "/app_instances", new_image(NAME))
        rest.data("POST", "/initiators", {"id": ME, "name": "a host"})
        acl = {"initiators": [{"path": f"/initiators/{ME}"}], "initiator_groups": []}
        rest.data("PUT", f"{STORAGE}/acl_policy", acl)
        rest.data("PUT", f"{INSTANCE}/metadata", {"length": "12"})
        rest.data("PUT", INSTANCE, {"admin_state": "online"})
        snapshot = rest.data("POST", f"{VOLUME}/snapshots", {})
        with device(rest.data("GET", STORAGE)["access"]) as disk:
            disk.write(GIB - 4, b"last")
        wait(lambda: rest.data("GET", STORAGE)["op_state"] == "available")
        wait(lambda: rest.data("GET", snapshot["path"])["op_state"] == "available")
        before = rest.data("GET", INSTANCE)
        port = array.port
    with simulator.Simulator(tmp_path, port=port) as array:
        # The session has the certificate's authority, and connections of before, in its memory.
        login = {"name": array.login, "password": array.password}
        rest.session.headers["Auth-Token"] = rest.call("PUT", "/login", login).json()["key"]
        after = rest.data("GET", INSTANCE)
        for each in (before, after):
            each["storage_instances"][0]["access"].pop("ips")
        assert after == before
        assert rest.data("GET", f"{INSTANCE}/metadata") == {"length": "12"}
        assert rest.data("GET", f"{STORAGE}/acl_policy")["initiators"] == acl["initiators"]
        with device(rest.data("GET", STORAGE)["access"]) as disk:
            assert disk.read(GIB - 4, 4) == b"last"


def test_two_arrays_do_not_share_a_directory(tmp_path, array):
    with (
        pytest.raises(exceptions.Busy, match="array"),
        simulator.Simulator(array.directory, target="file"),
    ):
        pass


def test_port_that_is_taken_is_told(tmp_path, array):
    with (
        pytest.raises(exceptions.Busy, match=str(array.port)),
        simulator.Simulator(tmp_path / "other", target="file", port=array.port),
    ):
        pass
