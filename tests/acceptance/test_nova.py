# SPDX-License-Identifier: Apache-2.0
"""Servers through real Nova, as their user sees them and as they are on the host."""

import base64
import contextlib
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import websocket

from container_stack.servers import spec

from . import host, nova_inside, nova_world, process

_SEED = """\
environment :
    etcd : 10.144.192.168
command : [sh, -c, 'echo etcd is at $etcd; exec sleep 3600']
"""


def test_each_service_runs_as_its_user(hosts: nova_world.World) -> None:
    for compute in hosts.computes.values():
        assert compute.service.users() == {compute.identity.user}
    assert hosts.strict.identity.user != 0


def test_a_user_starts_a_server_with_parameters_and_reads_its_console(
    hosts: nova_world.World,
) -> None:
    user = hosts.user
    (user.directory / "seed.yaml").write_text(_SEED)

    made = user.run(
        *("server", "create", "--image", "hello", "--flavor", "small", "--network", "quay"),
        *("--availability-zone", nova_world.STRICT, "--user-data", "seed.yaml", "--wait", "first"),
    )

    assert made["status"] == "ACTIVE"
    console = process.wait_for(
        "the console", lambda: user.type("openstack console log show first").strip()
    )
    assert console == "etcd is at 10.144.192.168"
    user.type("openstack server delete --wait first")
    assert hosts.strict.containers(made["id"]) == []


def test_a_server_has_the_addresses_and_the_mtu_of_its_port(hosts: nova_world.World) -> None:
    with hosts.server("addressed") as server:
        [port] = hosts.user.sdk.network.ports(device_id=server.id)
        [container] = hosts.strict.containers(server.id)
        [interface] = [
            each for each in host.addresses(container) if each["link_type"] != "loopback"
        ]

        assert port.status == "ACTIVE"
        assert interface["address"] == port.mac_address
        assert interface["mtu"] == nova_world.MTU
        assert {each["ip_address"] for each in port.fixed_ips} <= {
            each["local"] for each in interface["addr_info"]
        }
        assert len(port.fixed_ips) == 2


def test_servers_of_a_network_reach_each_other_by_both_families(hosts: nova_world.World) -> None:
    serving = "mkdir /tmp/w; echo harbour > /tmp/w/name; exec httpd -f -p 8080 -h /tmp/w"
    with (
        hosts.server("serving", user_data=_command(serving)) as serving_one,
        hosts.server("asking", availability_zone=nova_world.LENIENT) as asking,
    ):
        [port] = hosts.user.sdk.network.ports(device_id=serving_one.id)
        [container] = hosts.lenient.containers(asking.id)

        for address in (each["ip_address"] for each in port.fixed_ips):
            line = f"printf 'GET /name HTTP/1.0\\r\\n\\r\\n' | nc -w 9 {address} 8080 | tail -n 1"
            answer = process.wait_for(
                f"an answer from {address}",
                lambda line=line: nova_inside.run(container, "sh", "-c", line),
            )
            assert answer == "harbour\n"


def test_a_server_is_paused_stopped_started_and_rebooted_with_its_address(
    hosts: nova_world.World,
) -> None:
    with hosts.server("restless") as server:
        compute = hosts.user.sdk.compute
        before = _interfaces(hosts, server.id)

        for act, state, engine in (
            (compute.pause_server, "PAUSED", "paused"),
            (compute.unpause_server, "ACTIVE", "running"),
            (compute.stop_server, "SHUTOFF", "exited"),
            (compute.start_server, "ACTIVE", "running"),
        ):
            act(server.id)
            hosts.user.settled(server.id, state)
            [container] = hosts.strict.containers(server.id)
            assert container["State"]["Status"] == engine
        compute.reboot_server(server.id, "HARD")
        process.wait_for("the reboot", lambda: hosts.user.server(server.id).task_state is None)
        hosts.user.settled(server.id, "ACTIVE")
        assert _interfaces(hosts, server.id) == before


def test_a_killed_container_is_shut_off_at_once(
    hosts: nova_world.World, record_property: Callable[[str, object], None]
) -> None:
    compute = hosts.user.sdk.compute
    with hosts.server("mortal") as server:
        [container] = hosts.strict.containers(server.id)
        with host.engine() as client:
            client.api.kill(container["Id"])
        told = _shut_off(hosts, server.id) - _died(container)
        # Nova's own look at all servers comes every ten minutes.
        assert told < 60

        compute.start_server(server.id)
        hosts.user.settled(server.id, "ACTIVE")
        began = time.time()
        compute.stop_server(server.id)
        asked = _shut_off(hosts, server.id) - began
        record_property("seconds from a container's end to SHUTOFF", round(told, 3))
        record_property("of what a stop by the API takes", round(told / asked, 2))


def test_a_snapshot_starts_with_what_the_server_had_written(hosts: nova_world.World) -> None:
    sdk = hosts.user.sdk
    written = _command("echo calm sea > /log; exec sleep 3600")
    with hosts.server("writer", user_data=written) as server:
        [container] = hosts.strict.containers(server.id)
        process.wait_for("the file", lambda: nova_inside.run(container, "cat", "/log"))
        image = sdk.compute.create_server_image(server.id, "snapshot", wait=True, timeout=300)
    assert image.container_format == "docker"
    reading = _command("cat /log; exec sleep 3600")
    for zone in (nova_world.STRICT, nova_world.LENIENT):
        with hosts.server(
            "reader", image=image.id, user_data=reading, availability_zone=zone
        ) as server:
            assert _console(hosts, server.id) == "calm sea"
    sdk.image.delete_image(image.id)


def test_a_resized_server_has_the_memory_of_its_flavor(hosts: nova_world.World) -> None:
    compute = hosts.user.sdk.compute
    with hosts.server("growing") as server:
        before = _interfaces(hosts, server.id)
        for end, wanted in (
            (compute.revert_server_resize, nova_world.SMALL),
            (compute.confirm_server_resize, nova_world.LARGE),
        ):
            compute.resize_server(server.id, hosts.flavors["large"])
            hosts.user.settled(server.id, "VERIFY_RESIZE")
            assert _memory(hosts, server.id) == nova_world.LARGE[0]

            end(server.id)

            hosts.user.settled(server.id, "ACTIVE")
            assert _memory(hosts, server.id) == wanted[0]
            assert _interfaces(hosts, server.id) == before


def test_the_serial_console_is_a_shell(hosts: nova_world.World) -> None:
    with hosts.server("spoken-to") as server:
        console = hosts.user.sdk.compute.create_console(server.id, "serial", "serial")
        with contextlib.closing(
            websocket.create_connection(console["url"], subprotocols=["binary"], timeout=60)
        ) as shell:
            shell.send_binary(b"echo $((6*7)) fathoms\n")
            said = b""
            while b"42 fathoms" not in said:
                said += shell.recv() or b""


def test_user_data_that_is_no_document_reaches_the_server(hosts: nova_world.World) -> None:
    script = "#!/bin/sh\necho hello\n"
    with hosts.server("scripted", user_data=_encoded(script)) as server:
        assert _console(hosts, server.id) == nova_world.HELLO
        [container] = hosts.strict.containers(server.id)
        drive = f"{spec.CONFIG_DRIVE}/openstack/latest"
        assert nova_inside.run(container, "cat", f"{drive}/user_data") == script
        metadata = json.loads(nova_inside.run(container, "cat", f"{drive}/meta_data.json"))
        assert metadata["uuid"] == server.id


def _shut_off(hosts: nova_world.World, server: str) -> float:
    """Return when the API first says that a server is off."""
    deadline = time.time() + 180
    while hosts.user.sdk.compute.get_server(server).status != "SHUTOFF":
        assert time.time() < deadline
    return time.time()


def _died(container: Mapping[str, Any]) -> float:
    """Return when a container has ended last, by the engine's clock, which is this host's."""
    wanted = {"container": container["Id"], "event": "die"}
    with host.engine() as client:
        told = client.api.events(since=0, until=int(time.time()) + 1, filters=wanted, decode=True)
        return float(list(told)[-1]["timeNano"]) / 1e9


def _command(line: str) -> str:
    """Return user data that has a server run a line of shell."""
    return _encoded(json.dumps({"command": ["sh", "-c", line]}))


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _console(hosts: nova_world.World, server: str) -> str:
    def look() -> str:
        said: str = hosts.user.sdk.compute.get_server_console_output(server)["output"]
        return said.strip()

    return process.wait_for("words on the console", look)


def _interfaces(hosts: nova_world.World, server: str) -> list[tuple[str, str, list[str]]]:
    [container] = [
        each for each in hosts.strict.containers(server) if each["State"]["Status"] != "exited"
    ]
    return [
        (each["ifname"], each["address"], sorted(info["local"] for info in each["addr_info"]))
        for each in host.addresses(container)
    ]


def _memory(hosts: nova_world.World, server: str) -> int:
    """Return the limit of the container that runs, in MiB."""
    [container] = [each for each in hosts.strict.containers(server) if each["State"]["Running"]]
    return int(container["HostConfig"]["Memory"]) // 1024**2
