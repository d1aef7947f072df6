# SPDX-License-Identifier: Apache-2.0
"""What a server's container gets: the plan's, the operator's, and of the tenant's what is his."""

import dataclasses
from typing import Any

import pytest

from container_stack import exceptions
from container_stack.host import containers
from container_stack.servers import disks, model, spec

ID = "6f70656e-7374-4163-8b73-657276657273"
MIB = 1024**2


def made(
    wish: model.Wish | None = None, defaults: spec.Defaults | None = None, **values: Any
) -> containers.ContainerSpec:
    named = {"hostname": "web", **values}
    plan = model.Plan(ID, "instance-00000007", wish=wish or model.Wish(), **named)
    return spec.container_spec(
        plan, "sha256:1", disks.Connected(), defaults or spec.Defaults(), owner="nova-here"
    )


def test_container_is_found_by_its_labels_and_nobody_can_forge_them() -> None:
    labels = {"container_stack.owner": "other", "container_stack.role": "resized", "a": "b"}
    assert made(labels=labels).labels == {
        "container_stack.kind": "server",
        "container_stack.owner": "nova-here",
        "container_stack.id": ID,
        "container_stack.role": "main",
        "container_stack.name": "instance-00000007",
        "a": "b",
    }


def test_parked_containers_have_names_of_their_own() -> None:
    names = {spec.container_name(ID, role) for role in model.Role}
    assert len(names) == len(model.Role)
    assert f"cs-server-{ID}" in names


def test_server_is_walled_in_unless_somebody_says_otherwise() -> None:
    plain = made()
    assert plain.no_new_privileges
    assert not plain.privileged
    assert {"NET_RAW", "MKNOD", "SYS_ADMIN"}.isdisjoint(plain.capabilities)
    assert (plain.network, plain.limits.pids, plain.restart) == (None, 4096, "no")
    open_one = made(defaults=spec.Defaults(privileged=True))
    assert open_one.privileged
    assert not open_one.no_new_privileges


def test_capabilities_are_the_operators_and_what_a_wish_adds_and_drops() -> None:
    wish = model.Wish(add_capabilities=("NET_ADMIN", "KILL"), drop_capabilities=("CHOWN",))
    wanted = made(wish, spec.Defaults(capabilities=("CHOWN", "KILL"))).capabilities
    assert wanted == ("KILL", "NET_ADMIN")


def test_a_wish_can_only_take_less_than_the_flavor_gives() -> None:
    limits = model.Limits(memory=256 * MIB, swap=128 * MIB, cpus=1.5, pids=70)
    greedy = made(model.Wish(memory=999 * MIB, swap=999 * MIB), limits=limits).limits
    modest = made(model.Wish(memory=64 * MIB, swap=0), limits=limits).limits
    assert (greedy.memory, greedy.swap) == (256 * MIB, 128 * MIB)
    assert (modest.memory, modest.swap) == (64 * MIB, 0)
    assert (greedy.cpu_quota, greedy.cpu_period, greedy.pids) == (150_000, 100_000, 70)


def test_no_share_is_less_than_the_kernels_least() -> None:
    assert made(limits=model.Limits(cpu_shares=1)).limits.cpu_shares == 2
    assert made().limits.cpu_shares is None


def test_disk_is_limited_only_where_the_storage_can() -> None:
    limits = model.Limits(disk=7 * 1024 * MIB)
    assert made(limits=limits).storage is None
    assert made(limits=limits, defaults=spec.Defaults(quota=True)).storage == 7 * 1024 * MIB


def test_the_tenants_variables_come_over_the_operators() -> None:
    wish = model.Wish(environment={"A": "tenant"})
    assert made(wish, environment={"A": "operator", "B": "operator"}).environment == {
        "A": "tenant",
        "B": "operator",
    }


def port(**values: Any) -> model.Port:
    return model.Port(
        "11111111-7374-4163-8b73-657276657273",
        "network",
        model.Binding.NOOP,
        "02:00:00:00:00:01",
        **values,
    )


def test_name_servers_are_the_tenants_or_the_networks_or_the_operators() -> None:
    ports = (port(dns=("192.0.2.1", "192.0.2.2")), port(dns=("192.0.2.2", "192.0.2.3")))
    defaults = spec.Defaults(dns=("198.51.100.1",))
    assert made(ports=ports).dns == ("192.0.2.1", "192.0.2.2", "192.0.2.3")
    assert made(model.Wish(dns=("203.0.113.1",)), ports=ports).dns == ("203.0.113.1",)
    assert made(ports=(port(),), defaults=defaults).dns == ("198.51.100.1",)


def test_server_finds_itself_by_its_whole_name() -> None:
    ports = (port(addresses=("192.0.2.7/24", "2001:db8::7/64")),)
    wish = model.Wish(hostname="db", domainname="example.org")
    assert made(wish, ports=ports).hosts == (("db.example.org db", "192.0.2.7"),)
    assert made(ports=ports).hosts == (("web", "192.0.2.7"),)
    assert made().hosts == ()


def test_kernel_gets_of_a_long_name_what_it_takes() -> None:
    label = "x" * 62
    ports = (port(addresses=("192.0.2.7/24",)),)
    found = made(hostname=f"{label}.example.org", ports=ports)
    assert found.hostname == label
    assert found.hosts == ((f"{label}.example.org {label}", "192.0.2.7"),)
    assert made(hostname="web.example.org").hostname == "web.example.org"
    assert made(hostname="y" * 65).hostname == "y" * 64


def test_ports_on_the_host_are_for_servers_without_networks() -> None:
    wish = model.Wish(published=(("80/tcp", "8080"),))
    assert made(wish).network == "bridge"
    with pytest.raises(exceptions.InvalidRequest, match="--nic none"):
        made(wish, ports=(port(),))


def test_disks_and_wishes_both_appear() -> None:
    connected = disks.Connected(
        mounts=(containers.Mount("/a", "/volumes"),), devices=(("/dev/loop7", "/dev/vdb", "rw"),)
    )
    wish = model.Wish(
        volumes=(("/srv/data", "/data", True), ("", "/scratch", False)),
        devices=(("/dev/fuse", "/dev/fuse", "rwm"),),
    )
    plan = model.Plan(ID, "i", "web", wish=wish)
    found = spec.container_spec(
        plan, "1", connected, spec.Defaults(), owner="o", config_drive="/state/drive"
    )
    assert [(each.source, each.target, each.kind, each.read_only) for each in found.mounts] == [
        ("/state/drive", spec.CONFIG_DRIVE, "bind", True),
        ("/a", "/volumes", "bind", False),
        ("/srv/data", "/data", "bind", True),
        ("", "/scratch", "volume", False),
    ]
    assert [dataclasses.astuple(each) for each in found.devices] == [
        ("/dev/loop7", "/dev/vdb", "rw"),
        ("/dev/fuse", "/dev/fuse", "rwm"),
    ]
