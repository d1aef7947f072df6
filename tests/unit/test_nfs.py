# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from container_stack import exceptions
from container_stack.shares import container, nfs, protocols


def rule(to, level="rw"):
    return nfs.Rule("ip", to, level)


@pytest.mark.parametrize("to", ["192.0.2.7", "192.0.2.0/24", "0.0.0.0/0", "2001:db8::1", "::/0"])
def test_addresses_and_networks_make_rules(to):
    assert rule(to).to == to


@pytest.mark.parametrize(
    "to", ["", "*", "@group", "host.example", "192.0.2.0/33", "fe80::1%eth0", "1.2.3.4\n", "1.2.3"]
)
def test_nothing_else_makes_a_rule(to):
    with pytest.raises(exceptions.InvalidRequest):
        rule(to)


@pytest.mark.parametrize("to", ["::ffff:192.0.2.7", "::ffff:192.0.2.0/120"])
def test_ipv4_in_ipv6_is_refused(to):
    with pytest.raises(exceptions.InvalidRequest, match="as IPv4"):
        rule(to)


@pytest.mark.parametrize("length", [100, 127])
def test_networks_that_ganesha_does_not_understand_are_refused(length):
    with pytest.raises(exceptions.NotSupported, match="one by one"):
        rule(f"2001:db8::/{length}")
    assert rule("2001:db8::/99").to == "2001:db8::/99"
    assert rule("2001:db8::/128").to == "2001:db8::/128"


@pytest.mark.parametrize("kind", ["user", "cert", "cephx", ""])
def test_rules_of_other_kinds_are_refused(kind):
    with pytest.raises(exceptions.NotSupported, match="use ip"):
        nfs.Rule(kind, "192.0.2.7")


def test_the_smallest_network_comes_first():
    rules = [
        rule("0.0.0.0/0", "ro"),
        rule("192.0.2.7"),
        rule("192.0.2.9/24"),
        rule("2001:db8::/64"),
    ]
    assert nfs.document(rules) == (
        "rw 2001:db8::/64\nrw 192.0.2.7/32\nrw 192.0.2.0/24\nro 0.0.0.0/0\nend\n"
    )


def test_the_same_network_said_twice_is_one():
    rules = [rule("192.0.2.7"), rule("192.0.2.7/32")]
    assert nfs.document(rules) == "rw 192.0.2.7/32\nend\n"


def test_rules_that_contradict_each_other_are_refused():
    with pytest.raises(exceptions.InvalidRequest, match="contradict"):
        nfs.document([rule("192.0.2.0/24"), rule("192.0.2.1/24", "ro")])


def test_no_rules_are_an_end_alone():
    assert nfs.document([]) == "end\n"


@pytest.mark.parametrize(
    ("address", "location"),
    [("192.0.2.5", "192.0.2.5:/s-1"), ("2001:DB8::5", "[2001:db8::5]:/s-1")],
)
def test_export_location_is_as_mount_takes_it(address, location):
    assert nfs.Ganesha.export_location(address, "s-1") == location


def spec(**values):
    return container.spec(
        container.Settings(**values),
        name="n",
        labels={"a": "b"},
        shares_directory="/shares",
        state_volume="v",
    )


def test_server_without_nfs_has_no_rights_for_it():
    made = spec()
    assert made.capabilities == ("FOWNER", "SETGID", "SETUID")
    assert (made.command, made.security) == (None, ())
    assert container.spoken(made.labels) == ("CIFS",)


def test_server_with_nfs_may_name_files_by_handles():
    made = spec(protocols=("CIFS", "NFS"), nfs_minor_versions=(0, 2), nfs_squash="all")
    assert made.command == ("start", "nfs", "0,2", "all")
    assert "DAC_READ_SEARCH" in made.capabilities
    assert container.spoken(made.labels) == ("CIFS", "NFS")
    profile = json.loads(made.security[0].removeprefix("seccomp="))
    refused = {name for rule in profile["syscalls"] for name in rule["names"]}
    assert not refused & {"name_to_handle_at", "open_by_handle_at"}
    assert {"mount", "bpf", "ptrace", "unshare", "keyctl", "io_uring_setup"} <= refused


def test_server_made_before_there_was_nfs_speaks_cifs():
    assert container.spoken({}) == ("CIFS",)


@pytest.mark.parametrize(
    "values",
    [
        {"protocols": ("NFS",)},
        {"nfs_minor_versions": ()},
        {"nfs_minor_versions": (3,)},
        {"nfs_squash": "some"},
    ],
)
def test_settings_that_make_no_server_are_refused(values):
    with pytest.raises(exceptions.InvalidRequest):
        container.Settings(**values)


def test_a_protocol_that_nobody_speaks_is_refused():
    with pytest.raises(exceptions.NotSupported, match="CIFS or NFS"):
        protocols.get("SMB9")
