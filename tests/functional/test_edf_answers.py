# SPDX-License-Identifier: Apache-2.0
"""The EDF client and answers that no array would give."""

import contextlib
import itertools
import json
import time
import tracemalloc

import pytest

from container_stack import exceptions
from container_stack.imagestore import edf, edf_wire

from . import odd_array
from .odd_array import answer, good


def endless(send):
    send(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")
    with contextlib.suppress(OSError):
        while True:
            send(b" " * 1024**2)


def endless_chunks(send):
    send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    with contextlib.suppress(OSError):
        while True:
            send(b"100000\r\n" + b" " * 1024**2 + b"\r\n")


def drip(send):
    send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    with contextlib.suppress(OSError):
        for _ in range(100):
            send(b" ")
            time.sleep(0.1)


@pytest.mark.parametrize(
    "odd",
    [
        answer(b"<html>It works!</html>"),
        answer(b"[]"),
        answer(b'"text"'),
        answer(b"{}"),
        answer(b""),
        answer(b'{"data": NaN}'),
        answer(b"[" * 100_000),
        answer(b'{"data": ' + b"9" * 10_000 + b"}"),
        answer(b"\xff\xfe{}"),
        answer(b"\x1f\x8b\x08 not gzip", "200 OK", "Content-Encoding: gzip"),
        good({"data": None}),
        good({"data": []}),
        good({"data": {"name": 7, "path": "/x"}}),
        good({"data": {"name": "OS-IMAGE-1"}}),
        good({"data": {"name": "OS-IMAGE-1", "path": "/x", "storage_instances": 7}}),
        answer(b"", "302 Found", "Location: http://127.0.0.1:1/"),
        answer(b"", "307 Temporary Redirect", "Location: /v2.2/login"),
        answer(b"gone wild", "500 Internal Server Error"),
        answer(b'{"message": ["odd"]}', "500 Internal Server Error"),
        answer(b"", "299 Odd"),
        answer(b"", "999 Odder"),
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"",
    ],
)
def test_an_odd_answer_is_an_array_that_is_not_there(odd):
    with (
        odd_array.serve(odd) as server,
        pytest.raises(exceptions.ArrayUnavailable) as caught,
    ):
        edf.Client(server.endpoint()).app_instance("OS-IMAGE-1")
    assert "swordfish" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("odd", [endless, endless_chunks])
def test_an_endless_answer_is_not_kept_in_memory(odd):
    tracemalloc.start()
    try:
        with odd_array.serve(odd) as server:
            client = edf.Client(server.endpoint(timeout=30.0))
            with pytest.raises(exceptions.ArrayUnavailable, match="longer than 32 MiB"):
                client.app_instance("OS-IMAGE-1")
        assert tracemalloc.get_traced_memory()[1] < 2.5 * edf_wire.LONGEST
    finally:
        tracemalloc.stop()


def test_an_answer_that_drips_ends_at_the_deadline():
    with odd_array.serve(drip) as server:
        client = edf.Client(server.endpoint(timeout=0.5, retry_attempts=0))
        start = time.monotonic()
        with pytest.raises(exceptions.ArrayUnavailable, match=r"within 0\.5 s"):
            client.app_instance("OS-IMAGE-1")
        assert time.monotonic() - start < 8


def test_redirects_are_not_followed():
    location = "Location: /v2.2/elsewhere"
    with odd_array.serve(answer(b"", "302 Found", location)) as server:
        with pytest.raises(exceptions.ArrayUnavailable, match="redirects"):
            edf.Client(server.endpoint()).system()
        assert "GET /v2.2/elsewhere" not in server.seen


@pytest.mark.parametrize("key", [None, 7, "", "two\r\nlines", "é", {"a": 1}])
def test_a_login_without_a_usable_key_is_none(key):
    with odd_array.serve(b"") as server:
        server.scripts["/login"] = good({"key": key})
        with pytest.raises(exceptions.ArrayUnavailable, match="no key"):
            edf.Client(server.endpoint()).login()


@pytest.mark.parametrize("versions", [None, "v2.2", [7], {}])
def test_an_array_without_versions_is_none(versions):
    with odd_array.serve(b"") as server:
        server.scripts["/api_versions"] = good({"api_versions": versions})
        with pytest.raises(exceptions.ArrayUnavailable, match="no list of versions"):
            edf.Client(server.endpoint()).login()


def test_an_array_that_speaks_neither_version_is_not_supported():
    with odd_array.serve(b"") as server:
        server.scripts["/api_versions"] = good({"api_versions": ["v1", "v2"]})
        with pytest.raises(exceptions.NotSupported, match=r"v1, v2; v2\.2 or v2\.1 is needed"):
            edf.Client(server.endpoint()).login()


def test_an_array_that_knows_no_versions_speaks_the_first():
    with odd_array.serve(good({"data": {"sw_version": "2.1.1"}})) as server:
        server.scripts["/api_versions"] = answer(b"{}", "404 Not Found")
        server.scripts["/v2.1/login"] = good({"key": "k1"})
        client = edf.Client(server.endpoint())
        assert client.api_version() == "v2.1"
        assert client.system().sw_version == "2.1.1"
        assert server.seen[-1] == "GET /v2.1/system"


def test_cookies_are_not_kept():
    body = json.dumps({"data": {"sw_version": "2.2.0"}}).encode()
    with odd_array.serve(answer(body, "200 OK", "Set-Cookie: a=b; Path=/")) as server:
        client = edf.Client(server.endpoint())
        client.system()
        client.system()
        assert not [each for each in server.headers if each.startswith("cookie")]


def test_the_environment_does_not_lead_elsewhere(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with odd_array.serve(good({"data": {"sw_version": "2.2.0"}})) as server:
        assert edf.Client(server.endpoint()).system().sw_version == "2.2.0"


def test_a_list_that_ignores_the_offset_ends():
    page = good({"data": [{"path": f"/app_instances/{i}", "name": f"OS-{i}"} for i in range(500)]})
    with odd_array.serve(page) as server:
        found = list(itertools.islice(edf.Client(server.endpoint()).app_instances("OS-"), 600))
    assert len(found) == 500


def test_what_is_not_ours_may_look_as_it_likes():
    entries = [{"path": "/a", "name": "other", "storage_instances": 7}]
    with odd_array.serve(good({"data": entries})) as server:
        assert list(edf.Client(server.endpoint()).app_instances("OS-IMAGE-")) == []


@pytest.mark.parametrize(
    "name", ["", "ab", "../login", "a/b", "x" * 65, "-abc", "a?b", "a b c", "OS-IMAGE-ä", "1abc"]
)
def test_a_name_that_leads_elsewhere_is_refused_before_anything_is_sent(name):
    client = edf.Client(edf.Endpoint("192.0.2.1", "admin", "x"))
    for method in (client.app_instance, client.volume, client.delete_app_instance, client.snapshot):
        with pytest.raises(exceptions.InvalidRequest):
            method(name)


@pytest.mark.parametrize("path", ["/system", "/app_instances/x/snapshots/../..", "snapshots/1", ""])
def test_only_snapshots_are_deleted_as_such(path):
    with pytest.raises(exceptions.InvalidRequest, match="no snapshot's path"):
        edf.Client(edf.Endpoint("192.0.2.1", "admin", "x")).delete_snapshot(path)
