# SPDX-License-Identifier: Apache-2.0
"""Logins, bodies and manifests of the Swift driver, as far as they need no Swift."""

import json

import hypothesis
import pytest
from hypothesis import strategies

from container_stack import exceptions
from container_stack.drivers import swift, swift_body, swift_manifest
from container_stack.storlets import objects

OPENRC = {
    "OS_AUTH_URL": "http://192.0.2.1:5000/v3",
    "OS_USERNAME": "manager",
    "OS_PASSWORD": "passw0rd",
    "OS_USER_DOMAIN_NAME": "Default",
    "OS_PROJECT_DOMAIN_NAME": "Default",
}
TEMPAUTH = {"ST_AUTH": "http://192.0.2.1/auth/v1.0", "ST_USER": "a:b", "ST_KEY": "passw0rd"}
WHOLE = {"name": "/c/a/b", "hash": "0" * 32, "bytes": 7, "content_type": "x", "last_modified": ""}


def test_openrc_is_understood_with_the_names_of_old_and_new():
    for project in ("OS_PROJECT_NAME", "OS_TENANT_NAME"):
        made = swift.Credentials.from_environment(
            {**OPENRC, project: "service", "OS_REGION_NAME": "east", "OS_CACERT": "/ca.pem"}
        )
        assert made.kind == "v3password"
        assert made.options == {
            "auth_url": "http://192.0.2.1:5000/v3",
            "username": "manager",
            "password": "passw0rd",
            "project_name": "service",
            "user_domain_name": "Default",
            "project_domain_name": "Default",
        }
        assert (made.region, made.interface, made.ca_file) == ("east", "public", "/ca.pem")
        assert made.session().verify == "/ca.pem"


def test_application_credential_is_recognized():
    made = swift.Credentials.from_environment(
        {
            "OS_AUTH_URL": "http://192.0.2.1:5000",
            "OS_APPLICATION_CREDENTIAL_ID": "ab12",
            "OS_APPLICATION_CREDENTIAL_SECRET": "s3cret",
        }
    )
    assert made.kind == "v3applicationcredential"
    assert made.options["application_credential_secret"] == "s3cret"
    assert made.session().verify is True


def test_tempauth_is_for_who_has_no_keystone():
    made = swift.Credentials.from_environment(TEMPAUTH)
    assert (made.kind, made.options["username"]) == ("v1password", "a:b")
    assert swift.Credentials.from_environment({**TEMPAUTH, **OPENRC}).kind == "v3password"


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, "OS_AUTH_URL"),
        ({"ST_USER": "a:b", "ST_KEY": "c"}, "ST_AUTH"),
        ({"ST_AUTH": "http://192.0.2.1/auth/v1.0", "ST_KEY": "c"}, "ST_USER"),
        ({"ST_AUTH": "http://192.0.2.1/auth/v1.0", "ST_USER": "a:b"}, "ST_KEY"),
        ({**OPENRC, "OS_AUTH_TYPE": "nothing"}, "nothing"),
        (
            {**OPENRC, "OS_APPLICATION_CREDENTIAL_SECRET": "c"},
            "ID",
        ),
    ],
)
def test_what_is_missing_is_named(environment, told):
    with pytest.raises(exceptions.InvalidRequest, match=told):
        swift.Swift(swift.Credentials.from_environment(environment))


def test_password_is_in_no_representation():
    for environment in (OPENRC, TEMPAUTH):
        credentials = swift.Credentials.from_environment(environment)
        assert "passw0rd" not in repr(credentials) + repr(swift.Swift(credentials))


def test_account_is_one_name():
    store = swift.Swift(swift.Credentials.from_environment(TEMPAUTH))
    assert store.to("AUTH_other").account == "AUTH_other"
    for wrong in ("", "..", "AUTH_a/b", "a\0"):
        with pytest.raises(exceptions.InvalidRequest):
            store.to(wrong)


@hypothesis.given(
    pieces=strategies.lists(strategies.binary(max_size=50), max_size=10),
    off=strategies.integers(-3, 3),
    length=strategies.integers(1, 40),
)
def test_body_ends_only_if_it_is_as_long_as_announced(pieces, off, length):
    whole = b"".join(pieces)
    size = max(0, len(whole) + off)
    body = swift_body.make(pieces, size)
    for _again in range(2):
        read = b""
        try:
            while piece := body.read(length):
                read += piece
            assert read == whole
            assert size == len(whole)
        except swift_body.SourceFailed:
            assert size != len(whole)
            assert len(read) < size or not size
        body.seek(0)


def test_only_what_can_be_had_again_is_sent_again():
    assert hasattr(swift_body.make([b"a"], 1), "seek")
    assert hasattr(swift_body.make(b"a", 1), "seek")
    assert not hasattr(swift_body.make(iter([b"a"]), 1), "seek")


def test_manifest_is_read_as_it_was_written():
    segments = [objects.Segment("c", f"a/ü {n}", f"{n:032x}", n) for n in range(3)]
    sent = json.loads(swift_manifest.dump(segments))
    got = [
        {"name": each["path"], "hash": each["etag"], "bytes": each["size_bytes"]} for each in sent
    ]
    assert swift_manifest.load("c/a", [json.dumps(got).encode()]) == segments


@pytest.mark.parametrize(
    "entry",
    [
        {**WHOLE, "range": "0-3"},
        {**WHOLE, "sub_slo": True},
        {"data": "aGFsbG8="},
        {**WHOLE, "hash": "../etc"},
        {**WHOLE, "hash": None},
        {**WHOLE, "bytes": -1},
        {**WHOLE, "bytes": "7"},
        {**WHOLE, "bytes": True},
        {**WHOLE, "name": "c"},
        {**WHOLE, "name": "x/c/a"},
        {**WHOLE, "name": None},
        {},
        7,
    ],
)
def test_manifest_of_something_else_than_whole_objects_is_refused(entry):
    with pytest.raises(exceptions.InvalidRequest, match="upload it again"):
        swift_manifest.load("c/a", [json.dumps([WHOLE, entry]).encode()])


@pytest.mark.parametrize("text", [b"", b"{", b"{}", b"\xff", b"7", b"[" * 100_000])
def test_what_is_no_manifest_is_refused(text):
    with pytest.raises(exceptions.InvalidRequest):
        swift_manifest.load("c/a", [text])


def test_manifest_without_end_is_not_read_to_its_end():
    def endless():
        while True:
            yield b" " * 1024**2

    with pytest.raises(exceptions.InvalidRequest):
        swift_manifest.load("c/a", endless())
