# SPDX-License-Identifier: Apache-2.0
"""The EDF client and a simulated array: what an array does, and what goes wrong on the way."""

import concurrent.futures
import dataclasses
import logging
import os
import threading
import time
import uuid

import pytest
import trustme

from container_stack import exceptions
from container_stack.host import attach
from container_stack.imagestore import edf
from container_stack.testing.edf import simulator

NAME = "OS-IMAGE-7a3b"
OURS, OTHER = "iqn.2026-01.org.example:ours", "iqn.2026-01.org.example:other"
ABSENT = "OS-IMAGE-absent"


@pytest.fixture
def array(tmp_path):
    settings = {"password": "swordfish-7", "capacity": 2**60}
    with simulator.Simulator(tmp_path, target="file", **settings) as array:
        yield array


@pytest.fixture(params=["2.2.0", "3.3.0"])
def any_array(request, tmp_path):
    """An array before and after software 3.3 moved things."""
    with simulator.Simulator(tmp_path, target="file", sw_version=request.param) as array:
        yield array


def client(array, **values):
    patience = {"timeout": 5.0, "retry_attempts": 2, "retry_interval": 0.02}
    return edf.Client(edf.Endpoint(**{**array.endpoint_kwargs, **patience, **values}))


def make(client, name=NAME, **values):
    return client.create_app_instance(name, **{"size_gib": 1, "replica_count": 2, **values})


# Login -------------------------------------------------------------------------------------


def test_a_client_logs_in_when_it_is_first_used(array):
    first = client(array)
    assert first.api_version() == "v2.2"
    assert first.system().sw_version == "2.2.0"
    first.login()
    first.close()
    assert first.system().total > 0


def test_an_expired_key_is_renewed_unseen(array):
    first = client(array)
    make(first)
    array.faults.expire_keys()
    assert first.app_instance(NAME).name == NAME


def test_threads_renew_an_expired_key_once(array, caplog):
    caplog.set_level(logging.DEBUG)
    first = client(array)
    make(first)
    array.faults.expire_keys()
    array.faults.delay(0.2, path="/login")
    caplog.clear()
    barrier = threading.Barrier(8)

    def look():
        barrier.wait()
        return first.app_instance(NAME).name

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert [each.result() for each in [pool.submit(look) for _ in range(8)]] == [NAME] * 8
    assert sum("PUT /v2.2/login" in each.getMessage() for each in ours(caplog)) == 1


def ours(caplog):
    return [each for each in caplog.records if each.name.startswith("container_stack.")]


def test_a_key_that_is_refused_again_is_no_loop(array, caplog):
    caplog.set_level(logging.DEBUG)
    first = client(array)
    first.login()
    array.faults.http_error(401, path="/system")
    caplog.clear()
    with pytest.raises(exceptions.AccessDenied):
        first.system()
    assert sum("PUT /v2.2/login" in each.getMessage() for each in ours(caplog)) == 1


def test_a_wrong_password_is_said_once_and_not_told(array, caplog):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(exceptions.AccessDenied, match="check its name and password") as caught:
        client(array, password="xyzzy-plugh").login()
    assert "xyzzy-plugh" not in str(caught.value) + caplog.text
    assert sum("PUT /v2.2/login" in each.getMessage() for each in ours(caplog)) == 1


def test_neither_password_nor_key_is_logged(array, caplog):
    caplog.set_level(0)
    first = client(array)
    make(first)
    first.set_online(NAME, True)
    first.set_chap(NAME, attach.Chap("user", "chap-secret-1"))
    first.target(NAME)
    key = first._calls.connection.key()
    said = caplog.text + repr(first.endpoint) + repr(key)
    for secret in (first.endpoint.password, key.token, "chap-secret-1"):
        assert secret not in said


def test_each_request_is_logged_with_what_came_of_it(array, caplog):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(exceptions.NotFound):
        client(array).app_instance(ABSENT)
    said = [each.getMessage() for each in ours(caplog)]
    assert any(each.startswith(f"GET /v2.2/app_instances/{ABSENT}: 404 in ") for each in said)


def test_changes_are_logged_and_questions_are_not(array, caplog):
    caplog.set_level(logging.INFO)
    first = client(array)
    make(first)
    assert [each.getMessage() for each in ours(caplog)] == [f"Made app instance {NAME}"]
    caplog.clear()
    first.app_instance(NAME)
    assert ours(caplog) == []


def test_a_forked_child_has_connections_and_a_key_of_its_own(array):
    first = client(array)
    make(first)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            code = 0 if first.app_instance(NAME).name == NAME else 1
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert first.app_instance(NAME).name == NAME


# TLS ---------------------------------------------------------------------------------------


def test_an_unknown_authority_is_not_trusted(array, tmp_path):
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    for ca_file in (str(other), ""):
        start = time.monotonic()
        with pytest.raises(exceptions.HostNotReady, match="isn't trusted"):
            client(array, ca_file=ca_file, retry_interval=9.0).login()
        assert time.monotonic() - start < 5


def test_a_certificate_for_another_host_is_not_trusted(array):
    # It is made out to the array's address.
    with pytest.raises(exceptions.HostNotReady, match="isn't trusted"):
        client(array, address="localhost").login()


def test_the_environment_does_not_choose_the_authorities(array, monkeypatch, tmp_path):
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))
    client(array).login()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", array.endpoint_kwargs["ca_file"])
    with pytest.raises(exceptions.HostNotReady, match="isn't trusted"):
        client(array, ca_file=str(other)).login()


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_ca_file_that_is_none_is_said(array, tmp_path, content):
    path = tmp_path / "no-ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(exceptions.HostNotReady, match=r"CA file .*no-ca\.pem can't be used"):
        client(array, ca_file=str(path)).login()


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_verification_can_be_turned_off_with_a_warning(array, caplog):
    client(array, ca_file="", verify=False).login()
    warned = [each for each in ours(caplog) if each.levelno > logging.INFO]
    assert [each.levelname for each in warned] == ["WARNING"]


def test_port_7717_speaks_plain_http(tmp_path):
    address = f"127.{os.getpid() % 250 + 1}.77.17"
    with simulator.Simulator(
        tmp_path, target="file", tls=False, address=address, port=7717
    ) as array:
        first = client(array, port=7717, ca_file="")
        assert first.endpoint.url == f"http://{address}:7717"
        first.login()


# Patience ----------------------------------------------------------------------------------


def test_an_array_that_is_busy_is_asked_again(array):
    first = client(array)
    make(first)
    array.faults.http_error(503, times=2)
    assert first.app_instance(NAME).name == NAME


def test_patience_with_a_busy_array_ends(array, caplog):
    caplog.set_level(logging.DEBUG)
    first = client(array)
    first.login()
    array.faults.http_error(503)
    caplog.clear()
    with pytest.raises(exceptions.ArrayUnavailable, match="too busy"):
        first.system()
    assert sum("GET /v2.2/system: 503" in each.getMessage() for each in ours(caplog)) == 3


def test_no_operation_outlives_its_timeout(array):
    array.faults.http_error(503)
    first = client(array, retry_attempts=1000, retry_interval=0.1, operation_timeout=1.0)
    start = time.monotonic()
    with pytest.raises(exceptions.ArrayUnavailable):
        first.system()
    assert time.monotonic() - start < 20


def test_a_slow_array_is_not_waited_for_longer_than_agreed(array):
    first = client(array, timeout=0.3, retry_attempts=1)
    first.login()
    array.faults.delay(6)
    start = time.monotonic()
    with pytest.raises(exceptions.ArrayUnavailable, match=r"within 0\.3 s"):
        first.system()
    assert time.monotonic() - start < 5


def test_an_array_that_is_gone_is_said_to_be(array):
    endpoint = client(array, retry_attempts=0).endpoint
    first = edf.Client(dataclasses.replace(endpoint, port=1))
    with pytest.raises(exceptions.ArrayUnavailable, match="Nobody listens"):
        first.login()


# App instances -----------------------------------------------------------------------------


def test_an_app_instance_is_made_found_and_deleted(any_array):
    first = client(any_array)
    made = make(first, size_gib=3, placement_mode="all_flash")
    found = first.app_instance(NAME)
    assert made.uuid == found.uuid
    assert first.app_instance(found.uuid).name == NAME
    volume = first.volume(NAME)
    assert (volume.size_gib, volume.replica_count) == (3, 2)
    assert volume.placement in ("all_flash", "/placement_policies/all-flash")
    assert found.volume == volume
    assert first.delete_app_instance(NAME) is True
    assert first.delete_app_instance(NAME) is False
    with pytest.raises(exceptions.NotFound):
        first.app_instance(NAME)


def test_a_name_that_is_taken_is_somebody_elses(array):
    first = client(array)
    taken = make(first)
    with pytest.raises(exceptions.AlreadyExists):
        make(first)
    assert first.app_instance(NAME).uuid == taken.uuid


def test_what_was_made_is_ours_though_the_answer_was_lost(array):
    first = client(array)
    first.login()
    array.faults.drop_reply(1, path="/app_instances$", method="POST")
    identifier = str(uuid.uuid4())
    assert make(first, identifier=identifier).uuid == identifier
    assert len(array.app_instances()) == 1


def test_a_lost_answer_does_not_make_anothers_ours(array):
    first = client(array)
    taken = make(first)
    array.faults.http_error(503, times=1, path="/app_instances$", method="POST")
    with pytest.raises(exceptions.AlreadyExists):
        make(first)
    assert first.app_instance(NAME).uuid == taken.uuid


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_deleting_survives_a_lost_answer(array, method):
    first = client(array)
    make(first)
    array.faults.drop_reply(1, method=method)
    assert first.delete_app_instance(NAME) is True
    assert array.app_instances() == []


def test_a_full_array_has_no_space(array):
    first = client(array)
    array.faults.fill()
    with pytest.raises(exceptions.NoSpace):
        make(first)


@pytest.mark.parametrize("size_gib", [0, 32769])
def test_a_size_that_no_volume_has_is_refused(array, size_gib):
    with pytest.raises(exceptions.InvalidRequest, match="size"):
        make(client(array), size_gib=size_gib)


def test_going_online_gives_a_target_and_offline_takes_it(array):
    first = client(array)
    make(first)
    first.set_online(NAME, True)
    first.wait_available(NAME)
    target = first.target(NAME)
    assert target.iqn.startswith("iqn.")
    assert len(target.portals) == 2
    assert target.chap is None
    first.set_online(NAME, False, force=True)
    assert first.app_instance(NAME).admin_state == "offline"


def test_a_target_that_stays_away_is_not_waited_for_for_ever(array):
    first = client(array, operation_timeout=0.5)
    make(first)
    first.set_online(NAME, False, force=True)
    with pytest.raises(exceptions.ArrayUnavailable, match=r"takes more than 0\.5 s"):
        first.wait_available(NAME)


def test_more_images_than_the_array_gives_at_once_are_all_listed_once(array):
    first = client(array)
    names = [f"OS-IMAGE-{i:04}" for i in range(1001)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: make(first, name), [*names, "OS-OTHER-1", "AS-IMAGE-1"]))
    assert [each.name for each in first.app_instances("OS-IMAGE-")] == names
    assert len(list(first.app_instances())) == 1003


@pytest.mark.parametrize("count", [6, 7, 8, 14])
def test_the_last_page_may_be_full(array, monkeypatch, count):
    monkeypatch.setattr("container_stack.imagestore.edf_calls.PAGE", 7)
    first = client(array)
    for i in range(count):
        make(first, f"OS-IMAGE-{i:04}")
    assert len(list(first.app_instances("OS-IMAGE-"))) == count


def test_every_method_says_that_there_is_no_such_app_instance(any_array):
    first = client(any_array)
    for call in (
        lambda: first.app_instance(ABSENT),
        lambda: first.volume(ABSENT),
        lambda: first.set_online(ABSENT, True),
        lambda: first.resize(ABSENT, 2),
        lambda: first.target(ABSENT),
        lambda: first.wait_available(ABSENT),
        lambda: first.allow(ABSENT, OURS),
        lambda: first.set_chap(ABSENT, None),
        lambda: first.metadata(ABSENT),
        lambda: first.set_metadata(ABSENT, {"length": "1"}),
        lambda: first.snapshot(ABSENT),
        lambda: first.snapshots(ABSENT),
    ):
        with pytest.raises(exceptions.NotFound):
            call()
    first.disallow(ABSENT, OURS)


# Tenants -----------------------------------------------------------------------------------


@pytest.mark.parametrize("tenant", ["images", "/root/images", "/root/a/b", "chroot"])
def test_a_tenant_is_made_and_sees_only_its_own(array, tenant):
    root, below = client(array), client(array, tenant=tenant)
    below.ensure_tenant()
    below.ensure_tenant()
    make(below)
    assert [each.name for each in below.app_instances()] == [NAME]
    with pytest.raises(exceptions.NotFound):
        root.app_instance(NAME)
    below.allow(NAME, OURS)
    below.set_online(NAME, True)
    below.wait_available(NAME)


def test_an_initiator_of_another_tenant_is_no_hindrance(array):
    root, below = client(array), client(array, tenant="images")
    below.ensure_tenant()
    for each in (root, below):
        make(each)
        each.allow(NAME, OURS)


# Volumes and access ------------------------------------------------------------------------


def test_a_resize_is_over_when_the_volume_has_its_size(array):
    first = client(array)
    make(first)
    assert first.resize(NAME, 5).size_gib == 5
    assert first.volume(NAME).size_gib == 5


def test_allowing_and_disallowing_keeps_the_others(array):
    first = client(array)
    make(first)
    first.allow(NAME, OTHER)
    first.allow(NAME, OURS)
    first.allow(NAME, OURS.upper().replace("IQN", "iqn"))
    assert allowed(first) == {OTHER, OURS}
    first.disallow(NAME, OURS)
    first.disallow(NAME, OURS)
    assert allowed(first) == {OTHER}


def allowed(first):
    path = f"/app_instances/{NAME}/storage_instances/storage-1/acl_policy"
    initiators = first._calls.get(path)["initiators"]
    return {each["path"].rpartition("/")[2] for each in initiators}


def test_threads_that_allow_keep_each_other(array):
    first = client(array)
    make(first)
    names = [f"iqn.2026-01.org.example:host-{i}" for i in range(8)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda iqn: first.allow(NAME, iqn), names))
    assert allowed(first) == set(names)


@pytest.mark.parametrize("iqn", ["", "host", "iqn.x/../y", "iqn.2026-01.org.example:a b"])
def test_what_names_no_initiator_is_refused(array, iqn):
    first = client(array)
    make(first)
    with pytest.raises(exceptions.InvalidRequest, match="no initiator's name"):
        first.allow(NAME, iqn)


def test_chap_is_set_told_and_taken_away(array):
    first = client(array)
    make(first)
    first.set_online(NAME, True)
    for chap in (attach.Chap("u", "secret-12345"), attach.Chap("u", "s3", "t", "s4"), None):
        first.set_chap(NAME, chap)
        assert first.target(NAME).chap == chap


def test_notes_add_up_and_are_text(any_array):
    first = client(any_array)
    make(first)
    assert first.metadata(NAME) == {}
    first.set_metadata(NAME, {"type": "image", "length": "7"})
    first.set_metadata(NAME, {"length": "8"})
    assert first.metadata(NAME) == {"type": "image", "length": "8"}


# Snapshots and clones ----------------------------------------------------------------------


def test_a_snapshot_is_cloned_and_deleted(any_array):
    first = client(any_array)
    make(first, size_gib=2)
    assert first.snapshots(NAME) == []
    one, two = first.snapshot(NAME), first.snapshot(NAME)
    assert [each.path for each in first.snapshots(NAME)] == [one.path, two.path]
    clone = first.create_app_instance("OS-CLONE-1", clone_of=one.path)
    assert clone.volume.size_gib == 2
    larger = first.create_app_instance("OS-CLONE-2", size_gib=4, clone_of=one.path)
    assert larger.volume.size_gib == 4
    assert first.delete_snapshot(two.path) is True
    assert first.delete_snapshot(two.path) is False


@pytest.mark.parametrize("source", ["app_instance", "volume"])
def test_an_app_instance_and_a_volume_can_be_cloned_too(array, source):
    first = client(array)
    make(first, size_gib=2)
    path = getattr(first, source)(NAME).path
    assert first.create_app_instance("OS-CLONE-1", clone_of=path).volume.size_gib == 2


def test_a_clone_that_can_not_have_its_size_is_not_left(array):
    first = client(array)
    make(first)
    path = first.app_instance(NAME).path
    with pytest.raises(exceptions.InvalidRequest):
        first.create_app_instance("OS-CLONE-1", size_gib=32769, clone_of=path)
    assert [each.name for each in first.app_instances()] == [NAME]


def test_what_is_not_there_can_not_be_cloned(array):
    path = f"/app_instances/{uuid.uuid4()}"
    with pytest.raises(exceptions.NotFound):
        client(array).create_app_instance("OS-CLONE-1", clone_of=path)


def test_a_snapshot_is_not_made_twice_though_its_answer_was_lost(array):
    first = client(array)
    make(first)
    array.faults.drop_reply(1, path="/snapshots$", method="POST")
    made = first.snapshot(NAME)
    assert [each.path for each in first.snapshots(NAME)] == [made.path]
