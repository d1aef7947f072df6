# SPDX-License-Identifier: Apache-2.0
"""Directories of tenants: what may be said of them, and where secrets don't go."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container_stack import exceptions
from container_stack.drivers.manila import answers
from container_stack.drivers.manila import security as manila_security
from container_stack.shares import active_directory, container, model, protocols, security

SERVICE = security.SecurityService("active_directory", "corp.example", ("192.0.2.5",))
SPEC = model.ServerSpec("0b6d", model.Subnet("net", "10.0.0.0/24"), "10.0.0.9", users=SERVICE)
#: As Manila hands it over.
GIVEN = {
    "type": "active_directory",
    "name": "people",
    "dns_ip": "192.0.2.5, 192.0.2.6",
    "domain": "corp.example",
    "server": "",
    "default_ad_site": None,
    "ou": None,
    "user": "joiner",
    "password": "calm sea",
}


def test_server_s_spec_survives_its_label_with_its_directory() -> None:
    several = dataclasses.replace(
        SERVICE, dns=("192.0.2.5", "2001:db8::5"), server="dc1", unit="Servers/Storage"
    )
    spec = dataclasses.replace(SPEC, users=several)
    assert model.ServerSpec.from_json(spec.to_json()) == spec


def test_spec_of_an_earlier_version_has_no_directory() -> None:
    values = json.loads(dataclasses.replace(SPEC, users=None).to_json())
    del values["users"]
    assert model.ServerSpec.from_json(json.dumps(values)).users is None


def test_password_is_in_no_repr_and_in_nothing_that_is_kept() -> None:
    users, login = manila_security.wanted([GIVEN])
    assert login == security.Login("joiner", "calm sea")
    assert users is not None
    assert users.dns == ("192.0.2.5", "192.0.2.6")
    spec = dataclasses.replace(SPEC, users=users)
    server = model.Server(spec, "active", "c0ffee")
    kept = json.dumps(answers.server_details(server))
    assert answers.server_spec(answers.server_details(server)) == spec
    for text in (repr(login), repr(users), repr(server), spec.to_json(), kept):
        assert "calm sea" not in text


def test_details_fit_into_manila_s_columns() -> None:
    label = "x" * 60
    wide = security.SecurityService(
        "active_directory",
        ".".join([label] * 4),
        tuple(f"2001:db8:1111:2222:3333:4444:5555:{n}666" for n in (1, 2, 3)),
        ".".join([label] * 4),
        None,
        "/".join([label] * 4),
    )
    server = model.Server(dataclasses.replace(SPEC, users=wide), "active", "c0ffee")
    assert max(map(len, answers.server_details(server).values())) <= 1023


@pytest.mark.parametrize(
    ("said", "unit"),
    [
        (None, None),
        ("Servers/Storage", "Servers/Storage"),
        ("OU=Storage,OU=Servers,DC=corp,DC=example", "Servers/Storage"),
        ("ou=Storage", "Storage"),
        ("DC=corp,DC=example", None),
    ],
)
def test_organizational_unit_is_said_as_ldap_does_or_from_the_top(said, unit) -> None:
    users, _login = manila_security.wanted([{**GIVEN, "ou": said}])
    assert users is not None
    assert users.unit == unit


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"type": "kerberos"}, exceptions.NotSupported),
        ({"type": "ldap"}, exceptions.NotSupported),
        ({"domain": ""}, exceptions.InvalidRequest),
        ({"domain": "corp.example\nserver = x"}, exceptions.InvalidRequest),
        ({"domain": "corp.example\n"}, exceptions.InvalidRequest),
        ({"dns_ip": None}, exceptions.InvalidRequest),
        ({"dns_ip": "dc1.corp.example"}, exceptions.InvalidRequest),
        ({"server": "dc1; reboot"}, exceptions.InvalidRequest),
        ({"server": "-P"}, exceptions.InvalidRequest),
        ({"ou": "CN=Computers,DC=corp"}, exceptions.InvalidRequest),
        ({"ou": "OU=a/../b"}, exceptions.InvalidRequest),
        ({"default_ad_site": "Ber\nlin"}, exceptions.InvalidRequest),
        ({"user": ""}, exceptions.InvalidRequest),
        ({"user": "--help"}, exceptions.InvalidRequest),
        ({"user": "joiner%calm sea"}, exceptions.InvalidRequest),
        ({"user": "joiner\nend"}, exceptions.InvalidRequest),
        ({"password": ""}, exceptions.InvalidRequest),
        ({"password": "calm\nsea"}, exceptions.InvalidRequest),
    ],
)
def test_what_could_mean_something_else_is_refused_without_the_password(wrong, error) -> None:
    with pytest.raises(error) as caught:
        manila_security.wanted([{**GIVEN, **wrong}])
    assert "calm\nsea" not in str(caught.value)


def test_server_has_one_directory() -> None:
    with pytest.raises(exceptions.NotSupported, match="one"):
        manila_security.wanted([GIVEN, {**GIVEN, "type": "ldap"}])
    assert manila_security.wanted([]) == (None, None)


def test_login_of_a_removed_server_is_none_where_it_can_t_be_told() -> None:
    assert manila_security.login(None) is None
    assert manila_security.login([{**GIVEN, "password": None}]) is None
    kept = {"security_service_active_directory": json.dumps(GIVEN), "id": "0b6d"}
    assert manila_security.login(manila_security.kept(kept)) == security.Login("joiner", "calm sea")


@pytest.mark.parametrize("name", ["alice", "Domain Users", "O'Brien", "Grüße", "app$", "a.b-c_d"])
def test_names_of_the_domain_can_be_in_rules(name: str) -> None:
    section = active_directory.section("docs", [active_directory.Rule("user", name, "ro")])
    assert f"member ro = {name}\n" in section


@pytest.mark.parametrize(
    "name",
    [
        *("", "+staff", "@staff", "&staff", "-x", " a", "a ", "a,b", 'a"b', "a\nb", "a\n", "a=b"),
        *("%U", "CORP\\alice", "alice@corp.example", "a*", "a[b]", "a;b", "x" * 257),
    ],
)
def test_other_names_cannot(name: str) -> None:
    with pytest.raises(exceptions.InvalidRequest):
        active_directory.Rule("user", name)


@given(st.text(), st.sampled_from(["rw", "ro"]))
def test_no_name_adds_a_line_to_a_section(name: str, level: str) -> None:
    try:
        rule = active_directory.Rule("user", name, level)
    except exceptions.InvalidRequest:
        return
    lines = active_directory.section("docs", [rule]).split("\n")
    assert lines == ["path = /shares/docs/data", "read only = no", f"member {level} = {name}", ""]
    assert len("".join(lines).splitlines()) == 1


def test_without_users_nobody_of_the_domain_gets_in() -> None:
    assert active_directory.section("docs", [active_directory.Rule("ip", "10.0.0.0/8")]) == ""


def test_user_with_two_levels_is_refused() -> None:
    rules = [active_directory.Rule("user", "alice", level) for level in ("rw", "ro")]
    with pytest.raises(exceptions.InvalidRequest):
        active_directory.section("docs", rules)


def test_member_speaks_cifs_only_and_has_the_rights_of_a_server_without_nfs() -> None:
    settings = container.Settings(protocols=("CIFS", "NFS"))
    values = {"name": "c", "labels": {}, "shares_directory": "/s", "state_volume": "v"}
    member = container.spec(settings, **values, users=SERVICE, account=security.account("0b6d"))
    assert container.spoken(member.labels) == ("CIFS",)
    assert member.capabilities == container.CAPABILITIES
    assert member.dns == ("192.0.2.5",)
    with pytest.raises(exceptions.NotSupported, match="NFS is not served with users of"):
        protocols.get("NFS", SERVICE)


def test_account_is_a_computer_s_and_the_server_s_alone() -> None:
    names = {security.account(each) for each in ("one", "two")}
    assert len(names) == 2
    assert {len(each) for each in names} == {15}
