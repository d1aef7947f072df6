# SPDX-License-Identifier: Apache-2.0
"""Requests to the program that attaches targets as root: good ones arrive, no other does."""

import contextlib
import dataclasses
import json

import hypothesis
import pytest
from hypothesis import strategies

from container_stack import exceptions
from container_stack.rootwrap import brick_wire

GOOD = brick_wire.Request(
    "connect",
    key="0123456789abcdef" * 2,
    iqn="iqn.2013-05.com.daterainc:tc:01:sn:46c94df2d2c36cc6",
    portals=("192.0.2.7:3260", "[2001:db8::7]:3260"),
    lun=0,
    user="bob",
    secret="a secret has no blank".replace(" ", "-"),
    multipath=True,
    timeout=7.5,
)
HOSTILE = {
    "action": ["run", "", "connect\n", None, 1],
    "key": ["", "x" * 32, "0" * 31, "../" + "0" * 29, None],
    "iqn": [
        *("", "iqn.", "-T", "--login", "iqn.2013-05.a/../../b", "iqn.2013-05.a b", "/etc/passwd"),
        *("iqn.2013-05.a\n", "iqn.2013-05.a;x", "iqn.2013-05.*", "disk.1", "iqn." + "a" * 300, 7),
    ],
    "portals": [
        *([], ["192.0.2.7"], ["192.0.2.7:0"], ["192.0.2.7:65536"], ["host:3260"], ["-p:3260"]),
        *(["192.0.2.7:3260\n"], ["192.0.2.777:3260"], [":3260"], ["[::1]"], ["[x]:1"], [7]),
        *(["192.0.2.7:3260", ""], "192.0.2.7:3260", None),
    ],
    "lun": [-1, 16384, "0", True, 0.0],
    "user": ["bob\nnode.startup = automatic", "bob ", "\0", "b" * 256, "ü", None],
    "secret": ["\n", "a b", "\r", None, 3],
    "mutual_user": ["\n", " "],
    "mutual_secret": ["\n", " "],
    "multipath": [1, "yes", None],
    "read_only": [0, "no", None],
    "timeout": [0, 0.0, -1.0, 3601.0, float("inf"), float("nan"), "60", None, True],
    "host": [0.0, -1.0, 3601.0, None],
}


def with_value(name: str, value: object) -> bytes:
    return json.dumps({**dataclasses.asdict(GOOD), name: value}).encode()


@pytest.mark.parametrize(
    "request_",
    [GOOD, dataclasses.replace(GOOD, lun=None), brick_wire.Request("check")],
    ids=["full", "any volume", "check"],
)
def test_a_request_arrives_as_it_was_sent(request_):
    assert brick_wire.decode(request_.encode()) == request_


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_values_are_refused(name):
    assert brick_wire.decode(with_value(name, dataclasses.asdict(GOOD)[name])) == GOOD
    taken = []
    for value in HOSTILE[name]:
        with contextlib.suppress(exceptions.InvalidRequest):
            taken.append((value, brick_wire.decode(with_value(name, value))))
    assert taken == []


def test_every_field_has_hostile_values():
    assert set(HOSTILE) == {field.name for field in dataclasses.fields(brick_wire.Request)}


@pytest.mark.parametrize("message", [b"", b"[]", b"{}", b"7", b"\xff", b"null", b'"connect"'])
def test_what_is_no_request_is_refused(message):
    with pytest.raises(exceptions.InvalidRequest):
        brick_wire.decode(message)


def test_more_or_fewer_fields_are_refused():
    values = dataclasses.asdict(GOOD)
    for fields in ({**values, "command": "sh"}, {"action": "check"}):
        with pytest.raises(exceptions.InvalidRequest):
            brick_wire.decode(json.dumps(fields).encode())


def test_secrets_are_not_shown():
    shown = repr(dataclasses.replace(GOOD, mutual_secret="another-secret"))
    assert "secret-has" not in shown
    assert "another" not in shown


@hypothesis.given(strategies.text(), strategies.sampled_from(["iqn", "user", "secret"]))
@hypothesis.settings(deadline=None)
def test_what_is_taken_is_one_word(text, name):
    try:
        taken = getattr(brick_wire.decode(with_value(name, text)), name)
    except exceptions.InvalidRequest:
        return
    assert taken == text
    assert text.isascii()
    assert text.split() in ([text], [])
    assert name != "iqn" or ("/" not in text and not text.startswith("-"))
