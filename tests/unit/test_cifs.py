# SPDX-License-Identifier: Apache-2.0
"""The language of Samba: rules, sections, locations, containers."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from container_stack import exceptions
from container_stack.shares import cifs, container

ALICE = cifs.Rule("user", "alice")
BOB_READS = cifs.Rule("user", "bob", "ro")


@pytest.mark.parametrize("name", ["alice", "_", "a", "a-b_c9", "a" * 32])
def test_posix_names_can_be_users(name: str) -> None:
    assert cifs.Rule("user", name).to == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Alice",
        "9a",
        "-a",
        "a" * 33,
        "a b",
        "a\n",
        "a\nb",
        "\n",
        "a;b",
        "a%U",
        "%U",
        "+users",
        "@users",
        "&users",
        "a\\b",
        "a/b",
        "a.b",
        "a$",
        "ä",
        "a\x00",
        "a,b",
        '"a"',
        "root",
        "nobody",
        "none",
        "share",
        "\u0661a",
        "a\u0661",
    ],
)
def test_other_names_cannot(name: str) -> None:
    with pytest.raises(exceptions.InvalidRequest):
        cifs.Rule("user", name)


@pytest.mark.parametrize(
    ("text", "samba"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        ("192.0.2.7/24", "192.0.2.0/24"),
        ("192.0.2.0/255.255.255.0", "192.0.2.0/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:DB8::/64", "2001:db8::/64"),
        ("::/0", "::/0"),
        ("2001:db8::/99", "2001:db8::/99"),
        # Samba would take /100 and beyond for an address, and admit all of IPv6.
        ("2001:db8::/100", "2001:db8::/ffff:ffff:ffff:ffff:ffff:ffff:f000:0"),
        ("2001:db8::7", "2001:db8::7/ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ],
)
def test_networks_are_said_as_samba_understands_them(text: str, samba: str) -> None:
    lines = cifs.section("s", [ALICE, cifs.Rule("ip", text)]).splitlines()
    assert lines[-1] == f"hosts allow = {samba}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ALL",
        "LOCAL",
        "example.org",
        ".example.org",
        "192.0.2.",
        "192.0.2.0/33",
        "192.0.2.1-9",
        "192.0.2.1 ALL",
        "192.0.2.1\nALL",
        "fe80::1%eth0",
        "2001:db8::/129",
        "@group",
    ],
)
def test_other_texts_are_no_networks(text: str) -> None:
    with pytest.raises(exceptions.InvalidRequest):
        cifs.Rule("ip", text)


def test_network_cannot_be_read_only() -> None:
    with pytest.raises(exceptions.NotSupported, match="users' rules"):
        cifs.Rule("ip", "192.0.2.0/24", "ro")


@pytest.mark.parametrize("kind", ["cert", "cephx", "group", "", "USER"])
def test_smb_has_no_other_kinds_of_rules(kind: str) -> None:
    with pytest.raises(exceptions.NotSupported):
        cifs.Rule(kind, "alice")


@pytest.mark.parametrize("level", ["", "r", "RW", "rwx"])
def test_level_is_one_of_two(level: str) -> None:
    with pytest.raises(exceptions.InvalidRequest):
        cifs.Rule("user", "alice", level)


def test_section_tells_who_who_only_reads_and_from_where() -> None:
    rules = [BOB_READS, ALICE, cifs.Rule("ip", "192.0.2.0/24"), cifs.Rule("ip", "2001:db8::/64")]
    assert cifs.section("share-1", rules) == (
        "path = /shares/share-1/data\n"
        "read only = no\n"
        "valid users = alice bob\n"
        "read list = bob\n"
        "hosts allow = 192.0.2.0/24 2001:db8::/64\n"
    )


def test_order_and_repetition_of_rules_do_not_matter() -> None:
    one = cifs.section("s", [ALICE, BOB_READS, ALICE])
    assert one == cifs.section("s", [BOB_READS, ALICE])


@pytest.mark.parametrize("rules", [[], [cifs.Rule("ip", "192.0.2.0/24")]])
def test_without_users_there_is_no_section(rules: list[cifs.Rule]) -> None:
    assert cifs.section("s", rules) == ""


def test_user_with_two_levels_is_refused() -> None:
    with pytest.raises(exceptions.InvalidRequest, match="alice"):
        cifs.section("s", [ALICE, cifs.Rule("user", "alice", "ro")])


@pytest.mark.parametrize("name", ["a", "0", "share-1", "a.b_c", "a" * 63])
def test_volume_names_can_be_shares(name: str) -> None:
    assert f"/shares/{name}/data" in cifs.section(name, [ALICE])


@pytest.mark.parametrize(
    "name",
    [
        "",
        "A",
        "-a",
        ".a",
        "_a",
        "a..b",
        "a/b",
        "a b",
        "a\n",
        "a]",
        "a%",
        "ipc$",
        "global",
        "homes",
        "printers",
        "a" * 64,
    ],
)
def test_other_names_cannot_be_shares(name: str) -> None:
    with pytest.raises(exceptions.InvalidRequest):
        cifs.section(name, [ALICE])


@given(st.text(max_size=40), st.sampled_from(["user", "ip"]))
def test_no_text_adds_a_line_or_a_word_to_a_section(text: str, kind: str) -> None:
    try:
        rule = cifs.Rule(kind, text)
    except exceptions.ContainerStackError:
        return
    lines = cifs.section("s", [ALICE, rule]).splitlines()
    assert len(lines) == (3 if kind == "user" else 4)
    assert lines[2].removeprefix("valid users = ").split() == sorted(
        {"alice", text} if kind == "user" else {"alice"}
    )


@given(st.ip_addresses().flatmap(lambda a: st.tuples(st.just(a), st.integers(0, a.max_prefixlen))))
def test_samba_never_gets_a_prefix_that_it_misreads(
    network: tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int],
) -> None:
    text = f"{network[0]}/{network[1]}"
    if "%" in text:
        return
    line = cifs.section("s", [ALICE, cifs.Rule("ip", text)]).splitlines()[-1]
    address, _, mask = line.removeprefix("hosts allow = ").partition("/")
    assert len(mask) <= 2 or ":" in mask
    back = cifs._from_samba(f"{address}/{mask}")
    assert ipaddress.ip_network(back) == ipaddress.ip_network(text, strict=False)


@pytest.mark.parametrize(
    ("address", "location"),
    [
        ("192.0.2.5", r"\\192.0.2.5\share-1"),
        ("2001:db8::1", r"\\2001-db8--1.ipv6-literal.net\share-1"),
        ("2001:0DB8:0:0:0:0:0:1", r"\\2001-db8--1.ipv6-literal.net\share-1"),
    ],
)
def test_export_location_is_what_windows_takes(address: str, location: str) -> None:
    assert cifs.export_location(address, "share-1") == location


def test_container_is_granted_what_is_named_and_no_more() -> None:
    spec = container.spec(
        container.Settings(image="i", memory=3, pids=5),
        name="n",
        labels={"l": "1"},
        shares_directory="/srv/one",
        state_volume="v",
    )
    assert set(spec.capabilities) == {"FOWNER", "SETGID", "SETUID"}
    assert spec.read_only_root
    assert spec.no_new_privileges
    assert (spec.limits.memory, spec.limits.pids, spec.restart) == (3, 5, "unless-stopped")
    assert {(each.target, each.kind) for each in spec.mounts} == {
        ("/run", "tmpfs"),
        ("/shares", "bind"),
        ("/var/lib/samba", "volume"),
    }
    (shares,) = [each for each in spec.mounts if each.target == "/shares"]
    assert (shares.source, shares.read_only, shares.propagation) == ("/srv/one", True, "rslave")
