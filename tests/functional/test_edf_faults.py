# SPDX-License-Identifier: Apache-2.0
"""What goes wrong with a simulated array, and the parts of it that image stores don't use."""

import contextlib
import os
import time

import pytest
import requests

from container_stack.host import attach, attach_libiscsi
from container_stack.testing.edf import simulator

KIB = 1024
ME, OTHER = "iqn.2026-11.test:me", "iqn.2026-11.test:other"
INSTANCE = "/app_instances/OS-IMAGE-1"
STORAGE = f"{INSTANCE}/storage_instances/storage-1"
NEW = {
    "name": "OS-IMAGE-1",
    "storage_instances": [
        {"name": "storage-1", "volumes": [{"name": "volume-1", "size": 1}]},
    ],
}


class Rest:
    """Plain requests."""

    def __init__(self, array):
        self.base = f"https://{array.address}:{array.port}"
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = array.ca_file
        login = {"name": array.login, "password": array.password}
        self.session.headers["Auth-Token"] = self("PUT", "/login", login).json()["key"]

    def __call__(self, method, path, body=None):
        return self.raw(method, f"/v2.2{path}", body)

    def raw(self, method, path, body=None):
        return self.session.request(method, self.base + path, json=body, timeout=10)

    def data(self, method, path, body=None):
        answered = self(method, path, body)
        assert answered.ok, answered.text
        return answered.json()["data"]


@pytest.fixture(scope="module")
def array(tmp_path_factory):
    directory = tmp_path_factory.mktemp("array")
    with simulator.Simulator(directory, control=True) as array:
        yield array
    assert not list(directory.glob("tgtd.0*"))


@pytest.fixture
def rest(array):
    rest = Rest(array)
    rest.data("POST", "/app_instances", NEW)
    rest.data("PUT", INSTANCE, {"admin_state": "online"})
    for name in (ME, OTHER):
        rest("POST", "/initiators", {"id": name, "name": "somebody"})
    yield rest
    array.faults.clear()
    rest.data("PUT", INSTANCE, {"admin_state": "offline", "force": True})
    rest.data("DELETE", INSTANCE)


@contextlib.contextmanager
def session(rest, initiator=ME, timeout=5.0):
    access = rest.data("GET", STORAGE)["access"]
    options = attach.Options(initiator=initiator, timeout=timeout)
    target = attach.Target(access["iqn"], tuple(access["ips"]))
    with attach_libiscsi.LibiscsiAttacher.open(options).attach(target) as device:
        yield device


def allow(rest, *names):
    initiators = [{"path": f"/initiators/{name}"} for name in names]
    rest.data("PUT", f"{STORAGE}/acl_policy", {"initiators": initiators, "initiator_groups": []})


def can_log_in(rest, initiator):
    with contextlib.suppress(Exception), session(rest, initiator):
        return True
    return False


# Faults -------------------------------------------------------------------------------------


def test_errors_hit_as_often_and_where_they_should(rest, array):
    array.faults.http_error(503, times=2, path="/system$", method="GET")
    statuses = [rest("GET", "/system").status_code for _ in range(3)]
    assert statuses == [503, 503, 200]
    array.faults.http_error(500)
    assert rest("GET", INSTANCE).json()["http"] == 500
    assert rest.raw("GET", "/api_versions").status_code == 500
    array.faults.clear()
    assert rest("GET", INSTANCE).ok


def test_delayed_answers_are_late(rest, array):
    array.faults.delay(0.4, times=1)
    began = time.monotonic()
    assert rest("GET", "/system").ok
    assert time.monotonic() - began > 0.4


def test_lost_reply_was_obeyed(rest, array):
    array.faults.drop_reply(path="/metadata$")
    with pytest.raises(requests.ConnectionError):
        rest("PUT", f"{INSTANCE}/metadata", {"length": "7"})
    assert rest.data("GET", f"{INSTANCE}/metadata") == {"length": "7"}


def test_lost_portal_leaves_the_other(rest, array):
    allow(rest, ME)
    with session(rest, timeout=10.0) as device:
        device.write(0, b"before")
        for index in (0, 1):
            array.faults.lose_portal(index)
            device.write(KIB, bytes([index]) * KIB)
            assert device.read(KIB, KIB) == bytes([index]) * KIB
            array.faults.clear()
        assert device.read(0, 6) == b"before"


def test_offline_volume_is_there_again_when_faults_end(rest, array):
    allow(rest, ME)
    array.faults.volume_offline("OS-IMAGE-1")
    assert not can_log_in(rest, ME)
    array.faults.clear()
    assert can_log_in(rest, ME)


def test_full_array_grows_nothing(rest, array):
    array.faults.fill()
    refused = rest("PUT", f"{STORAGE}/volumes/volume-1", {"size": 2})
    assert refused.status_code == 422
    assert "no space left" in refused.json()["message"]
    assert not rest("POST", "/app_instances", {**NEW, "name": "OS-IMAGE-2"}).ok
    assert rest.data("GET", "/system")["available_capacity"] == 0


def test_faults_are_made_by_request(rest):
    armed = {"fault": "http_error", "status": 503, "times": 1, "path": "/system"}
    assert rest.raw("POST", "/control/faults", armed).ok
    assert rest("GET", "/system").status_code == 503
    assert rest("GET", "/system").ok
    assert rest.raw("POST", "/control/faults", {"fault": "delay", "seconds": 9}).ok
    assert rest.raw("DELETE", "/control/faults").ok
    assert rest("GET", "/system").elapsed.total_seconds() < 5
    for odd in ({"fault": "tsunami"}, {"fault": "delay", "weeks": 9}, {}, [], {"fault": "clear"}):
        assert rest.raw("POST", "/control/faults", odd).status_code == 400


def test_faults_are_made_by_request_only_where_that_is_wanted(tmp_path):
    with simulator.Simulator(tmp_path, target="file") as array:
        rest = Rest(array)
        assert rest.raw("POST", "/control/faults", {"fault": "fill"}).status_code == 404


# Access -------------------------------------------------------------------------------------


def test_sessions_are_shown_and_keep_it_online(rest):
    allow(rest, ME)
    assert rest.data("GET", STORAGE)["active_initiators"] == []
    with session(rest):
        assert rest.data("GET", STORAGE)["active_initiators"] == [{"path": f"/initiators/{ME}"}]
        assert rest("PUT", INSTANCE, {"admin_state": "offline"}).status_code == 409
        assert rest.data("GET", INSTANCE)["admin_state"] == "online"
    rest.data("PUT", INSTANCE, {"admin_state": "offline", "force": True})
    assert rest.data("GET", STORAGE)["access"]["ips"] == []


def test_members_of_a_group_may_log_in(rest):
    group = {"name": "crew", "members": [{"path": f"/initiators/{ME}"}]}
    made = rest.data("POST", "/initiator_groups", group)
    assert made["path"] == "/initiator_groups/crew"
    assert rest("POST", "/initiator_groups", group).status_code == 409
    policy = {"initiators": [], "initiator_groups": [{"path": made["path"]}]}
    rest.data("PUT", f"{STORAGE}/acl_policy", policy)
    assert (can_log_in(rest, ME), can_log_in(rest, OTHER)) == (True, False)
    rest.data("PUT", made["path"], {"members": [{"path": f"/initiators/{OTHER}"}]})
    assert (can_log_in(rest, ME), can_log_in(rest, OTHER)) == (False, True)
    assert rest("DELETE", made["path"]).status_code == 409
    allow(rest)
    rest.data("DELETE", made["path"])
    assert rest.data("GET", "/initiator_groups") == []
    assert not can_log_in(rest, OTHER)


def test_access_list_counts_unless_all_are_allowed(rest):
    assert not can_log_in(rest, ME)
    rest.data("PUT", STORAGE, {"access_control_mode": "allow_all"})
    assert can_log_in(rest, ME)
    rest.data("PUT", STORAGE, {"access_control_mode": "deny_all"})
    assert not can_log_in(rest, ME)


def test_what_tgt_cannot_express_is_refused_and_changes_nothing(rest):
    before = rest.data("GET", f"{STORAGE}/auth")
    odd = {"type": "chap", "target_user_name": "two,three", "target_pswd": "twelve-or-more"}
    assert rest("PUT", f"{STORAGE}/auth", odd).status_code == 422
    assert rest.data("GET", f"{STORAGE}/auth") == before


def test_key_ends_with_a_logout(rest):
    assert rest("PUT", "/logout").ok
    assert rest("GET", "/system").status_code == 401
    rest.session.headers["Auth-Token"] = rest(
        "PUT", "/login", {"name": "admin", "password": "password"}
    ).json()["key"]


def test_description_names_all_that_there_is(rest):
    described = rest.data("GET", "/api")
    assert set(described["/app_instances"]) == {"name", "read", "create"}
    assert set(described["/app_instances/:name"]) == {"name", "read", "update", "delete"}
    assert described["/metrics/io/:metric"]["read"]["urlParamSchema"]["metric"]["enum"]


# Many ---------------------------------------------------------------------------------------


def test_thousands_are_listed_page_by_page(tmp_path):
    with simulator.Simulator(tmp_path, target="file", capacity=2**60) as array:
        rest = Rest(array)
        for number in range(2100):
            rest.data("POST", "/app_instances", {**NEW, "name": f"image-{number:04}"})
        found, began = [], time.monotonic()
        while page := rest.data("GET", f"/app_instances?limit=1000&sort=name&offset={len(found)}"):
            found += [each["name"] for each in page]
        assert time.monotonic() - began < 30
        assert found == [f"image-{number:04}" for number in range(2100)]
        assert rest("GET", "/app_instances?limit=1001").status_code == 400
        usual = rest("GET", "/app_instances").json()
        assert len(usual["data"]) == 100
        assert usual["metadata"]["total_count"] == 2100
        occupied = sum(os.stat(each).st_blocks for each in tmp_path.glob("volumes/*"))
        assert occupied == 0
