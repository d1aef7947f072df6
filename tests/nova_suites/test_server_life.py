# SPDX-License-Identifier: Apache-2.0
"""The life of servers in Nova's functional frame: its API, scheduler, conductor and compute.

One start of all that serves many steps, since it takes longer than they do.
"""

import base64
import contextlib
import os
import socket
import sys
import time
import urllib.parse
from collections.abc import Callable
from typing import Any

from nova.tests import fixtures as nova_fixtures
from nova.tests.functional import integrated_helpers
from nova.tests.functional.api import client

from container_stack.host import containers
from container_stack.servers import spec

from .docker_glance import IMAGE
from .docker_test import DockerTest

PATIENCE = 120.0
MIB = 1024**2


class ServersTest(DockerTest, integrated_helpers._IntegratedTestBase):  # type: ignore[misc]
    """A small cloud of one host; its ports lead nowhere."""

    api_major_version = "v2.1"
    microversion = "latest"
    ADMIN_API = True
    REQUIRES_LOCKING = True

    def setUp(self) -> None:
        paste = os.path.join(sys.prefix, "etc/nova/api-paste.ini")
        self.flags(api_paste_config=paste, group="wsgi")
        for name, port in vars(nova_fixtures.NeutronFixture).items():
            if isinstance(port, dict) and "binding:vif_type" in port:
                noop = {**port, "binding:vif_type": "noop"}
                self.stub_out(f"nova.tests.fixtures.NeutronFixture.{name}", noop)
        super().setUp()

    def _setup_services(self) -> None:
        self.choose_driver()
        self.flags(enabled=True, group="serial_console")
        self.flags(allow_resize_to_same_host=True)
        # Else Nova's own fixtures take for granted that a service ends in no time.
        self.flags(graceful_shutdown_timeout=120, manager_shutdown_timeout=60)
        super()._setup_services()

    def _start_compute(self, host: str, *args: Any, **kwargs: Any) -> Any:
        return super()._start_compute(f"{self.world.host}-{host}", *args, **kwargs)

    def _wait_for_server_parameter(
        self, server: Any, expected_params: Any, *_args: Any, **_kwargs: Any
    ) -> Any:
        """Wait longer than Nova's own helper, for a real engine, and not for what can't come."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            found = self.api.get_server(server["id"])
            if all(found[name] == value for name, value in expected_params.items()):
                return found
            ended = found["status"] == "ERROR" and "fault" in found
            assert not ended, found["fault"]
            time.sleep(0.1)
        raise AssertionError(f"{server['id']} never became {expected_params}: {found}")

    # What tests ask

    def boot(self, state: str = "ACTIVE", **values: Any) -> Any:
        body = {
            "name": "web",
            "imageRef": IMAGE,
            "flavorRef": self.small,
            "networks": [{"port": nova_fixtures.NeutronFixture.port_1["id"]}],
            **values,
        }
        made = self.api.post_server({"server": body})
        return self._wait_for_state_change(made, state)

    @property
    def small(self) -> str:
        return self.flavor("small", memory_mb=64, vcpu=1, disk=1)

    def flavor(self, name: str, **values: int) -> str:
        known = {each["name"]: each["id"] for each in self.api.get_flavors()}
        return str(known.get(name) or self._create_flavor(name=name, **{"ephemeral": 0, **values}))

    def act(self, server: Any, action: str, values: Any = None, state: str = "ACTIVE") -> Any:
        answer = self.api.post_server_action(server["id"], {action: values})
        self._wait_for_server_parameter(server, {"status": state, "OS-EXT-STS:task_state": None})
        return answer

    def container(self, server: Any) -> containers.Container:
        return self.world.container(server["id"])

    def run_in(self, server: Any, *argv: str) -> str:
        result = self.world.engine.exec(spec.container_name(server["id"]), argv)
        assert result.exit_code == 0, result
        return result.stdout.decode().strip()

    def console(self, server: Any, length: int | None = None) -> str:
        values = {} if length is None else {"length": length}
        answer = self.api.post_server_action(server["id"], {"os-getConsoleOutput": values})
        return str(answer["output"])

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"it never came to pass: {what}"
            time.sleep(0.05)


class TestServerLife(ServersTest):
    def test_a_server_lives_as_nova_says(self) -> None:
        server = self.boot(metadata={"COLOR": "green", "not a variable": "x"})
        self._boots(server)
        self._is_paused_stopped_and_rebooted(server)
        self._keeps_what_it_wrote_when_resized(server)
        self._changes_its_interfaces(server)
        self._is_rescued(server)
        self._is_shelved(server)
        self._begins_anew_when_rebuilt(server)
        copy = self._is_copied_by_snapshot(server)
        self._is_deleted(server)
        self._is_deleted(copy)
        assert self.world.everything() == []

    def _boots(self, server: Any) -> None:
        assert self.container(server).state == "running"
        self.wait(lambda: "ready" in self.console(server), "the console says ready")
        assert self.console(server, 1).strip() == "ready"
        assert self.run_in(server, "sh", "-c", 'echo "$COLOR"') == "green"
        assert "192.168.1.3/24" in self.run_in(server, "ip", "-4", "addr")
        host = self._get_provider_uuid_by_host(self.compute.host)
        assert "CUSTOM_CONTAINER_STACK" in self._get_provider_traits(host)
        assert self._get_provider_usages(host) == {"VCPU": 1, "MEMORY_MB": 64, "DISK_GB": 1}
        told = self.api.api_get(f"/servers/{server['id']}/diagnostics").body
        assert (told["state"], told["hypervisor"]) == ("running", "docker")
        assert told["memory_details"]["maximum"] == 64 * MIB
        assert told["memory_details"]["used"] < 64 * MIB

    def _is_paused_stopped_and_rebooted(self, server: Any) -> None:
        self.act(server, "pause", state="PAUSED")
        assert self.container(server).state == "paused"
        self.act(server, "unpause")
        before = self.container(server).started_at
        self.act(server, "reboot", {"type": "SOFT"})
        assert (before or 0) != self.container(server).started_at
        self.act(server, "os-stop", state="SHUTOFF")
        assert self.container(server).exit_code == 0
        self.act(server, "os-start")
        assert "192.168.1.3/24" in self.run_in(server, "ip", "-4", "addr")

    def _keeps_what_it_wrote_when_resized(self, server: Any) -> None:
        self.run_in(server, "sh", "-c", "echo mine >/tmp/file")
        large = self.flavor("large", memory_mb=96, vcpu=1, disk=1)
        for end in ("revertResize", "confirmResize"):
            self.act(server, "resize", {"flavorRef": large}, state="VERIFY_RESIZE")
            assert self._limit(server) == 96 * MIB
            assert self.run_in(server, "cat", "/tmp/file") == "mine"
            self.act(server, end)
            assert self._limit(server) == (96 if end == "confirmResize" else 64) * MIB
            assert self.run_in(server, "cat", "/tmp/file") == "mine"
            assert len(self.world.everything()) == 1

    def _limit(self, server: Any) -> int:
        told = self.api.api_get(f"/servers/{server['id']}/diagnostics").body
        return int(told["memory_details"]["maximum"])

    def _changes_its_interfaces(self, server: Any) -> None:
        port = nova_fixtures.NeutronFixture.port_2["id"]
        self.neutron.create_port({"port": self.neutron.port_2})
        self._attach_interface(server, port)
        assert "192.168.1.30/24" in self.run_in(server, "ip", "-4", "addr")
        self._detach_interface(server, port)
        assert "192.168.1.30/24" not in self.run_in(server, "ip", "-4", "addr")

    def _is_rescued(self, server: Any) -> None:
        own = self.container(server).id
        self.act(server, "rescue", {"rescue_image_ref": IMAGE}, state="RESCUE")
        assert self.container(server).id != own
        self.act(server, "unrescue")
        assert self.container(server).id == own

    def _is_shelved(self, server: Any) -> None:
        self.flags(shelved_offload_time=0)
        self.act(server, "shelve", state="SHELVED_OFFLOADED")
        assert self.world.everything() == []
        self.act(server, "unshelve")
        assert self.run_in(server, "cat", "/tmp/file") == "mine"

    def _begins_anew_when_rebuilt(self, server: Any) -> None:
        self.act(server, "rebuild", {"imageRef": IMAGE})
        assert self.run_in(server, "ls", "/tmp") == ""
        assert "192.168.1.3/24" in self.run_in(server, "ip", "-4", "addr")

    def _is_copied_by_snapshot(self, server: Any) -> Any:
        self.run_in(server, "sh", "-c", "echo copied >/tmp/file")
        self.act(server, "createImage", {"name": "copy"})
        image = next(each for each in self.glance.images.values() if each["name"] == "copy")
        assert (image["container_format"], image["status"]) == ("docker", "active")
        copy = self.boot(name="copy", imageRef=image["id"], networks="none")
        assert self.run_in(copy, "cat", "/tmp/file") == "copied"
        return copy

    def _is_deleted(self, server: Any) -> None:
        self._delete_server(server)
        names = [each.name for each in self.world.everything()]
        assert spec.container_name(server["id"]) not in names


class TestServerTrouble(ServersTest):
    def test_nova_and_its_users_are_told_the_truth(self) -> None:
        server = self.boot()
        self._has_a_serial_console(server)
        self._takes_another_password(server)
        self._that_dies_is_shut_off(server)
        self._that_somebody_starts_has_its_network(server)
        self._is_known_after_a_restart(server)
        self._user_data_is_judged()
        self._delete_server(server)
        self._a_flavors_other_disks_are_counted_and_kept()
        self._no_server_is_booted_from_a_volume()
        assert self.world.everything() == []

    def _has_a_serial_console(self, server: Any) -> None:
        first = self._console_port(server)
        with contextlib.closing(socket.create_connection(("127.0.0.1", first))) as peer:
            peer.settimeout(PATIENCE)
            peer.sendall(b"echo $((6 * 7))-seen\n")
            heard = b""
            while b"42-seen" not in heard:
                data = peer.recv(4096)
                assert data, heard
                heard += data
            assert len(self._shells(server)) == 1
        self.wait(lambda: not self._shells(server), "the shell has ended with its console")
        assert self._console_port(server) == first

    def _console_port(self, server: Any) -> int:
        body = {"remote_console": {"protocol": "serial", "type": "serial"}}
        made = self.api.api_post(f"/servers/{server['id']}/remote-consoles", body).body
        url = made["remote_console"]["url"]
        token = urllib.parse.parse_qs(urllib.parse.urlsplit(url).query)["token"][0]
        return int(self.api.api_get(f"/os-console-auth-tokens/{token}").body["console"]["port"])

    def _shells(self, server: Any) -> list[str]:
        running = self.world.engine.processes(spec.container_name(server["id"]))
        return [each for each in running if each.split(None, 1)[1] in ("/bin/sh", "sh")]

    def _takes_another_password(self, server: Any) -> None:
        self.act(server, "changePassword", {"adminPass": "s3cret word"})
        assert self.run_in(server, "cat", "/etc/passwords") == "root:s3cret word"

    def _that_dies_is_shut_off(self, server: Any) -> None:
        self.world.engine.kill(spec.container_name(server["id"]))
        self._wait_for_state_change(server, "SHUTOFF")

    def _that_somebody_starts_has_its_network(self, server: Any) -> None:
        self.act(server, "os-start")
        self.world.engine.restart(spec.container_name(server["id"]), timeout=0)
        self.wait(
            lambda: "192.168.1.3/24" in self.run_in(server, "ip", "-4", "addr"),
            "its interface is plugged again",
        )

    def _is_known_after_a_restart(self, server: Any) -> None:
        self.act(server, "os-start") if self._status(server) == "SHUTOFF" else None
        before = self.container(server).id
        self.restart_compute_service(self.compute)
        assert self.container(server).id == before
        self.world.engine.kill(spec.container_name(server["id"]))
        self._wait_for_state_change(server, "SHUTOFF")

    def _status(self, server: Any) -> str:
        return str(self.api.get_server(server["id"])["status"])

    def _a_flavors_other_disks_are_counted_and_kept(self) -> None:
        flavor = self.flavor("disks", memory_mb=64, vcpu=1, disk=1, ephemeral=2, swap=64)
        server = self.boot(flavorRef=flavor, networks="none")
        host = self._get_provider_uuid_by_host(self.compute.host)
        assert self._get_provider_usages(host)["DISK_GB"] == 4
        assert self.run_in(server, "ls", "/volumes") == "sdb"
        self.run_in(server, "sh", "-c", "echo mine >/volumes/sdb/file")
        assert int(self.run_in(server, "df", "-m", "/volumes/sdb").split()[-5]) > 1800
        # In this frame the API hears what compute says.
        with contextlib.suppress(client.OpenStackApiException):
            self.act(server, "resize", {"flavorRef": self.small})
        first, *_ = self.api.get_instance_actions(server["id"])
        told = self.api.get_instance_action_details(server["id"], first["request_id"])
        assert "disks don't shrink" in str(told)
        assert self.run_in(server, "cat", "/volumes/sdb/file") == "mine"
        self._delete_server(server)

    def _no_server_is_booted_from_a_volume(self) -> None:
        volume = {
            "boot_index": 0,
            "uuid": nova_fixtures.CinderFixture.IMAGE_BACKED_VOL,
            "source_type": "volume",
            "destination_type": "volume",
        }
        refused = self.boot("ERROR", imageRef="", networks="none", block_device_mapping_v2=[volume])
        assert "boot an image and attach the volume" in refused["fault"]["message"]
        self._delete_server(refused)

    def _user_data_is_judged(self) -> None:
        bad = base64.b64encode(b"volumes:\n  /etc: /mnt\n").decode()
        refused = self.boot("ERROR", user_data=bad, networks="none")
        assert "allowed_host_paths" in refused["fault"]["message"]
        self._delete_server(refused)
        good = base64.b64encode(b"command: sleep 1000\nenvironment:\n  A: b\n").decode()
        made = self.boot(user_data=good, networks="none")
        assert (
            self.run_in(made, "cat", "/proc/1/cmdline").replace("\0", " ").strip() == "sleep 1000"
        )
        self._delete_server(made)
        script = base64.b64encode(b"#!/bin/sh\necho hello\n").decode()
        made = self.boot(user_data=script, networks="none")
        path = f"{spec.CONFIG_DRIVE}/openstack/latest/user_data"
        assert self.run_in(made, "head", "-1", path) == "#!/bin/sh"
        self._delete_server(made)
