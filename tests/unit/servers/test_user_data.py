# SPDX-License-Identifier: Apache-2.0
"""User data is told apart: parameters are read within bounds, all else is passed on."""

import base64
import contextlib
import gzip
import json
import time
from email.mime import multipart, text

import hypothesis
import pytest
from hypothesis import strategies

from container_stack import exceptions
from container_stack.servers.wishes import plain_data, user_data

#: Far above what a slow machine needs for any 64 KiB, far below what an attack is worth.
LONG = 20.0


def parameters(raw: str | bytes) -> object:
    parsed = user_data.parse(raw if isinstance(raw, bytes) else raw.encode())
    return parsed.parameters


def refusal(raw: str | bytes) -> str:
    with pytest.raises(exceptions.InvalidRequest) as info:
        parameters(raw)
    assert len(str(info.value)) < 300
    assert "\n" not in str(info.value)
    return str(info.value)


# What is whose


def test_yaml_and_json_say_the_same() -> None:
    yaml = "environment:\n  etcd: 10.144.192.168\n  DEBUG: 1\nvolumes:\n  /a : /b\n"
    document = {
        "environment": {"etcd": "10.144.192.168", "DEBUG": 1},
        "volumes": {"/a": "/b"},
    }
    wanted = {"environment": {"etcd": "10.144.192.168", "DEBUG": "1"}, "volumes": {"/a": "/b"}}
    for raw in (yaml, json.dumps(document), f"\ufeff\n{json.dumps(document, indent=2)}"):
        assert user_data.parse(raw.encode()) == user_data.Parsed(wanted, passed_on=False)


def test_yaml_flow_with_bare_words_is_no_json_and_is_read() -> None:
    assert parameters("{volumes: {/a: /b}}") == {"volumes": {"/a": "/b"}}


def test_scalars_stay_as_they_are_written() -> None:
    yaml = "environment: {A: 1.10, B: 0x10, C: 22:22, D: yes, E: 2026-11-21, F: ~, G: '~', H: <<}"
    assert parameters(yaml) == {
        "environment": {
            "A": "1.10",
            "B": "0x10",
            "C": "22:22",
            "D": "yes",
            "E": "2026-11-21",
            "F": None,
            "G": "~",
            "H": "<<",
        }
    }
    assert parameters('{"environment": {"A": 1.10, "B": 1e3, "C": true}}') == {
        "environment": {"A": "1.10", "B": "1e3", "C": True}
    }


@pytest.mark.parametrize(
    "raw",
    [
        b"#cloud-config\nruncmd: [a]\n",
        b"\n#Cloud-Config\nvolumes: {/: /}\n",
        b"#!/bin/sh\necho volumes: a\n",
        b"#include\nhttp://192.0.2.1/a\n",
        b"#part-handler\n",
        b"## template: jinja\n#cloud-config\na: {{ b }}\n",
        b"#cloud-boothook\n",
        gzip.compress(b"volumes: {/: /}", mtime=0),
        b"\x1f\x8b",
        b"\xff\xfe\x00",
        b"volumes: \xc3\x28",
        b'{"ignition": {"version": "3.4.0"}}',
        b"<powershell>dir</powershell>",
        b"hello: [world\n",
        b"just text",
        b"- a\n- b\n",
        b"[1, 2]",
        b"# nothing but words\n",
        b"&a [*a]",
        b"a: b: c",
        b"\x00\x01\x02",
    ],
)
def test_what_is_for_others_is_passed_on_untouched(raw: bytes) -> None:
    assert user_data.parse(raw) == user_data.Parsed(None, passed_on=True)


def test_nothing_is_nothing() -> None:
    for raw in (b"", b" \n\t\n"):
        assert user_data.parse(raw) == user_data.Parsed()


# Heat


def heat(said: str, name: str | None = "cfn-userdata", subtype: str = "x-cfninitdata") -> bytes:
    """Return user data as Heat makes it of a template's."""
    message = multipart.MIMEMultipart()
    for content, filename, kind in (
        ("#cloud-config\nuser: nobody\n", "cloud-config", "cloud-config"),
        ("volumes: {/: /}\n", "part-handler.py", "part-handler"),
        (said, name, subtype),
    ):
        part = text.MIMEText(content, kind, "us-ascii" if content.isascii() else "utf-8")
        if filename is not None:
            part.add_header("Content-Disposition", "attachment", filename=filename)
        message.attach(part)
    return message.as_bytes()


@pytest.mark.parametrize(
    ("name", "subtype"), [("cfn-userdata", "x-cfninitdata"), ("", "plain"), (None, "plain")]
)
def test_what_a_template_says_is_found_in_heats_message(name: str | None, subtype: str) -> None:
    said = "volumes :\n  /tmp/test112233 : /tmp/tést\n"
    assert user_data.parse(heat(said, name, subtype)) == user_data.Parsed(
        {"volumes": {"/tmp/test112233": "/tmp/tést"}}, passed_on=True
    )


@pytest.mark.parametrize("said", ["", "#!/bin/sh\n", "#cloud-config\nvolumes: {}\n", "words"])
def test_messages_without_parameters_are_passed_on(said: str) -> None:
    assert user_data.parse(heat(said)) == user_data.Parsed(None, passed_on=True)


def test_what_cannot_be_read_in_a_message_is_refused() -> None:
    assert "no YAML" in refusal(heat("volumes: [\n"))


@pytest.mark.parametrize(
    "raw",
    [
        b"Content-Type: multipart/mixed\n\n",
        b"Content-Type: multipart/mixed; boundary=a\n\n--a",
        b"MIME-Version: 1.0\n\nvolumes: {/: /}\n",
        b"Content-Type: text/plain; charset=nothing\n\nvolumes: {/: /}",
        b"".join(
            b"Content-Type: multipart/mixed; boundary=%d\n\n--%d\n" % (n, n) for n in range(900)
        ),
        b"Content-Type: multipart/mixed; boundary=a\n\n" + b"--a\n\n" * 9000,
    ],
)
def test_broken_messages_are_passed_on(raw: bytes) -> None:
    assert user_data.parse(raw) == user_data.Parsed(None, passed_on=True)


# What is refused


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ("x" * 65536, "65536 bytes; at most 65535"),
        ("volumes: {/a: /b", "no YAML: .* at line 1, column 17"),
        ('{"volumes": ', "no JSON: Expecting value at line 1, column 13"),
        ('{"Env": ["a" "b"]}', "no JSON: .* at line 1, column 14"),
        ("a: &a [1]\nb: *a\n", "Aliases"),
        ("a: &a\n  <<: *a\n", "Aliases"),
        ("volumes: !!python/object/apply:os.system [id]\n", "Tags"),
        ("environment: !!binary aGFsbG8=\n", "Tags"),
        ("user: a\nuser: b\n", "'user' is there twice"),
        ('{"user": "a", "user": "b"}', "'user' is there twice"),
        ("environment:\n  ? [a]\n  : b\n", "key of an object must be a text"),
        ("user: a\n---\nuser: b\n", "several documents"),
        ('{"a":' * 13000, "12 levels"),
        ('{"Env": ' + "[" * 30 + "]" * 30 + "}", "12 levels"),
        ("user: " + "[" * 2000, "12 levels"),
        ("dns: [" + "a," * 20000 + "a]", "10000 values"),
        (json.dumps({"Env": [""] * 15000}), "10000 values"),
        ('{"Env": ["A=\\ud800"]}', "surrogate"),
        ('user: "\\0"', "NUL"),
        ('{"a\\u0000b": 1}', "NUL"),
        ('{"Memory": NaN}', "NaN"),
    ],
)
def test_parameters_that_cannot_be_read_are_refused_in_words(raw: str, why: str) -> None:
    message = refusal(raw)
    with pytest.raises(AssertionError, match=why):
        raise AssertionError(message)


def test_a_bomb_of_aliases_is_refused() -> None:
    bomb = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    bomb += [f"{n}: &{n} [{','.join([f'*{chr(ord(n) - 1)}'] * 9)}]" for n in "bcdefghi"]
    assert "Aliases" in refusal("\n".join(bomb))


@pytest.mark.parametrize(
    "raw",
    [
        "- a\n" * 16000,
        "? " * 30000,
        "user: '" + "a\n" * 30000,
        "user: " + "{a: " * 10000,
        "[" * 65000,
        "{" * 65000,
        "user: |\n" + " a\n" * 20000,
        "user: " + "&a " * 20000,
        "%TAG ! a\n" * 6000,
        "user: [" + "[a]," * 16000,
        '{"user": "' + "\\" * 65000,
        "user: " + "- " * 30000,
        "user: " + "? a\n" * 15000,
    ],
)
def test_no_64_kib_take_long(raw: str) -> None:
    start = time.monotonic()
    with contextlib.suppress(exceptions.InvalidRequest):
        user_data.parse(raw.encode()[: user_data.MAX_SIZE])
    assert time.monotonic() - start < LONG


@hypothesis.settings(max_examples=200, deadline=None)
@hypothesis.given(
    strategies.one_of(
        strategies.binary(max_size=400),
        strategies.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
        strategies.text("{}[]:,-?&*!|>'\"%@`#\n\t ~abuser0", max_size=120).map(str.encode),
        strategies.text('{}[]:,"\\u0eE.+-tfn\n ', max_size=120).map(lambda t: b"{" + t.encode()),
    )
)
def test_whatever_it_is_there_is_an_answer(raw: bytes) -> None:
    parsed = user_data.Parsed(passed_on=True)
    with contextlib.suppress(exceptions.InvalidRequest):
        parsed = user_data.parse(raw)
    assert parsed.passed_on or parsed.parameters is not None or not raw.decode("utf-8-sig").strip()


JSON = strategies.recursive(
    strategies.one_of(
        strategies.none(),
        strategies.booleans(),
        strategies.integers(),
        strategies.text(strategies.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    ),
    lambda inner: (
        strategies.lists(inner, max_size=4)
        | strategies.dictionaries(strategies.text("abc", min_size=1), inner, max_size=4)
    ),
    max_leaves=12,
)


def plain(value: object) -> object:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return str(value)


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(strategies.dictionaries(strategies.text("abc", min_size=1), JSON, max_size=3))
def test_json_comes_back_as_it_was_but_for_numbers(document: dict[str, object]) -> None:
    assert plain_data.read(json.dumps(document)) == plain(document)


# Base64


def test_user_data_is_decoded() -> None:
    assert user_data.decode(base64.b64encode(b"\x00\xff").decode()) == b"\x00\xff"
    assert user_data.decode(None) == b""
    for wrong in ("a", "@@@@", "YQ==é"):
        with pytest.raises(exceptions.InvalidRequest, match="base64"):
            user_data.decode(wrong)
