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
from container_stack.shares import (
    active_directory,
    container,
    directories,
    ldap,
    members,
    model,
    protocols,
    security,
)

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


LDAP = security.SecurityService("ldap", "corp.example", (), server="192.0.2.5")


@pytest.mark.parametrize(
    ("domain", "base"),
    [
        ("corp.example", "dc=corp,dc=example"),
        ("dc=corp,dc=example", "dc=corp,dc=example"),
        ("o=Calm Sea,c=de", "o=Calm Sea,c=de"),
    ],
)
def test_base_is_said_as_an_entry_or_as_a_dns_name(domain, base) -> None:
    assert ldap.base(dataclasses.replace(LDAP, domain=domain)) == base


@pytest.mark.parametrize(
    ("user", "unit", "reader"),
    [
        ("joiner", None, "uid=joiner,dc=corp,dc=example"),
        ("joiner", "Servers/Storage", "uid=joiner,ou=Storage,ou=Servers,dc=corp,dc=example"),
        ("cn=reader,o=elsewhere", "Servers", "cn=reader,o=elsewhere"),
    ],
)
def test_reader_is_said_as_an_entry_or_as_a_uid(user, unit, reader) -> None:
    service = dataclasses.replace(LDAP, unit=unit)
    assert ldap.reader(service, security.Login(user, "calm sea")) == reader


@pytest.mark.parametrize(
    "user", ["a,b", "a=b", "a(b", "a*", "a\\2c", 'a"b', "a+b", "a;b", "cn=a,,b=c"]
)
def test_reader_s_name_adds_nothing_to_his_entry(user) -> None:
    if user == "a=b":
        assert ldap.reader(LDAP, security.Login(user, "calm sea")) == user
        return
    with pytest.raises(exceptions.InvalidRequest):
        ldap.reader(LDAP, security.Login(user, "calm sea"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"server": None},
        {"server": "ldap.corp.example"},
        {"server": "ldap.corp.example:389", "dns": ("192.0.2.5",)},
        {"server": "192.0.2.5\npassword = x"},
        {"domain": ""},
        {"domain": "dc=corp,dc=example\n"},
        {"domain": "dc=corp)(uid=*"},
        {"domain": "dc=%U"},
        {"site": "Berlin"},
        {"dns": ("dns.corp.example",)},
    ],
)
def test_ldap_directory_is_refused_unless_it_can_be_found(wrong) -> None:
    with pytest.raises(exceptions.InvalidRequest):
        dataclasses.replace(LDAP, **wrong)


def test_ldap_server_is_a_host_or_an_address_of_either_kind() -> None:
    named = dataclasses.replace(LDAP, server="ldap.corp.example", dns=("192.0.2.5",))
    assert ldap.url(named.server or "") == "ldap://ldap.corp.example"
    assert ldap.url("192.0.2.5") == "ldap://192.0.2.5"
    assert ldap.url("2001:db8:0::5") == "ldap://[2001:db8::5]"


@given(st.text())
def test_no_name_of_ldap_s_is_a_pattern_or_the_server_s_own(name: str) -> None:
    try:
        rule = ldap.Rule("user", name)
    except exceptions.InvalidRequest:
        return
    assert not set(rule.to) & set("*()\\,=+ \n%@&")
    assert rule.to.lower() not in ("root", "nobody", "share")


@pytest.mark.parametrize("name", ["Root", "nobody", "SHARE", "-x", ".x", "Domain Users", "a\n"])
def test_names_that_ldap_users_cannot_have(name: str) -> None:
    with pytest.raises(exceptions.InvalidRequest):
        ldap.Rule("user", name)


def test_certificates_are_all_that_is_taken_of_a_file(tmp_path) -> None:
    one = "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n"
    key = "-----BEGIN PRIVATE KEY-----\nQUJD\n-----END PRIVATE KEY-----\n"
    path = tmp_path / "ca.pem"
    path.write_text(f"# Calm Sea\n{one}{key}\n{one}")
    assert ldap.certificates(str(path)) == (one + one).splitlines()


def test_no_directory_of_ldap_s_is_said_to_keep_anything(caplog) -> None:
    directories.report(dataclasses.replace(SPEC, users=LDAP), "a crash")
    assert caplog.text == ""
    directories.report(SPEC, "a crash")
    assert security.account(SPEC.id) in caplog.text


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
    section = members.section("docs", [active_directory.Rule("user", name, "ro")])
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
    lines = members.section("docs", [rule]).split("\n")
    assert lines == ["path = /shares/docs/data", "read only = no", f"member {level} = {name}", ""]
    assert len("".join(lines).splitlines()) == 1


def test_without_users_nobody_of_the_domain_gets_in() -> None:
    assert members.section("docs", [active_directory.Rule("ip", "10.0.0.0/8")]) == ""


def test_user_with_two_levels_is_refused() -> None:
    rules = [active_directory.Rule("user", "alice", level) for level in ("rw", "ro")]
    with pytest.raises(exceptions.InvalidRequest):
        members.section("docs", rules)


@pytest.mark.parametrize(
    ("users", "started", "dns"), [(SERVICE, "member", ("192.0.2.5",)), (LDAP, "ldap", ())]
)
def test_member_speaks_cifs_only_and_has_the_rights_of_a_server_without_nfs(
    users, started, dns
) -> None:
    settings = container.Settings(protocols=("CIFS", "NFS"))
    values = {"name": "c", "labels": {}, "shares_directory": "/s", "state_volume": "v"}
    member = container.spec(settings, **values, users=users, account=security.account("0b6d"))
    assert container.spoken(member.labels) == ("CIFS",)
    assert member.capabilities == container.CAPABILITIES
    assert member.dns == dns
    assert member.command == ("start", started)
    with pytest.raises(exceptions.NotSupported, match="NFS is not served with users of"):
        protocols.get("NFS", users)


def test_account_is_a_computer_s_and_the_server_s_alone() -> None:
    names = {security.account(each) for each in ("one", "two")}
    assert len(names) == 2
    assert {len(each) for each in names} == {15}
