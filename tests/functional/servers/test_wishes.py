# SPDX-License-Identifier: Apache-2.0
"""What a tenant asks for and may have is what his container gets; what he may not, it hasn't."""

import contextlib
import json
import pathlib
import socket
import time
import urllib.request
from collections.abc import Iterator

import pytest

from container_stack import exceptions
from container_stack.host import containers
from container_stack.servers import assembly, keys, spec
from container_stack.servers.wishes import policy, user_data

from .server_host import Host

SLEEP = "echo started; exec sleep 1000"


@contextlib.contextmanager
def server(
    host: Host, service: assembly.Service, rules: policy.Rules, document: object, **values: object
) -> Iterator[str]:
    """A running server whose tenant has said this; lends its container's name."""
    parsed = user_data.parse(json.dumps(document).encode())
    wish = policy.Policy(rules).admit(parsed)
    plan = host.plan(wish=wish, ports=(), **values)
    service.servers.spawn(plan, host.image_id)
    try:
        deadline = time.monotonic() + 60
        while b"started" not in service.servers.console(plan.id):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield host.name(plan.id)
    finally:
        service.servers.destroy(plan.id)


def inside(host: Host, container: str, script: str, user: str = "0") -> str:
    result = host.engine.exec(container, ["sh", "-c", script], user=user)
    assert result.exit_code == 0, result
    return result.stdout.decode().strip()


def shared_namespaces(host: Host, container: str) -> set[str]:
    """Return which of this host's namespaces a container is in."""
    processes = pathlib.Path("/proc")
    process = processes / str(host.engine.inspect(container).pid) / "ns"
    return {
        kind
        for kind in ("pid", "net", "ipc", "uts", "mnt")
        if (process / kind).readlink() == (processes / "self/ns" / kind).readlink()
    }


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def capabilities(status: str) -> set[str]:
    """Return names for the bits that matter here, of a process's status."""
    mask = int(status, 16)
    bits = {"CHOWN": 0, "NET_ADMIN": 12, "NET_RAW": 13, "SYS_ADMIN": 21, "MKNOD": 27}
    return {name for name, bit in bits.items() if mask >> bit & 1}


@pytest.fixture(scope="module")
def parent(engine: containers.Engine, busybox_image: str, session_id: str) -> Iterator[str]:
    """A container with a volume, that an operator runs beside servers."""
    name = f"cstest-parent-{session_id}"
    volume = containers.Mount("", "/of-parent", "volume")
    engine.create(containers.ContainerSpec(name, busybox_image, mounts=[volume]))
    yield name
    engine.remove(name)


def test_the_whole_document_reaches_the_engine(
    host: Host, service: assembly.Service, tmp_path: pathlib.Path, parent: str
) -> None:
    port = free_port()
    directory = str(tmp_path)
    (tmp_path / "of-host").write_text("hello")
    tmp_path.chmod(0o777)
    document = {
        "Hostname": "",
        "Domainname": "example.org",
        "User": "1000:1001",
        "Memory": 64 * 1024**2,
        "MemorySwap": 64 * 1024**2,
        "CpuShares": 512,
        "Cpuset": "0",
        "Tty": False,
        "Env": ["PORT=8000", "SAYS=a = b"],
        "Cmd": ["-c", "echo $PORT says $SAYS; httpd -p $PORT -h /tmp; " + SLEEP],
        "Entrypoint": ["/bin/sh"],
        "Volumes": {"/own": {}},
        "WorkingDir": "/tmp",
        "ExposedPorts": {"8000/tcp": {}},
        "SecurityOpts": [""],
        "HostConfig": {
            "Binds": [f"{directory}:/tmp", f"{directory}:/read:ro"],
            "Links": ["redis3:redis"],
            "LxcConf": {"lxc.utsname": "docker"},
            "PortBindings": {"8000/tcp": [{"HostPort": str(port)}]},
            "Dns": ["192.0.2.53"],
            "DnsSearch": ["example.org", ""],
            "ExtraHosts": ["six:2001:db8::6"],
            "VolumesFrom": [f"{parent}:ro"],
            "CapAdd": ["NET_ADMIN"],
            "CapDrop": ["CHOWN"],
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2},
            "Devices": ["/dev/null:/dev/cstest:rw"],
        },
    }
    rules = policy.Rules(
        allowed_host_paths={directory: False},
        allowed_links={"redis3": "192.0.2.7"},
        allowed_volumes_from={parent: True},
        allowed_capabilities=("NET_ADMIN",),
        allowed_host_ports=((port, port),),
        allowed_devices={"/dev/null": False},
        allow_restart_policies=True,
    )
    with server(host, service, rules, document) as container:
        assert inside(host, container, "hostname; hostname -d") == "docker\nexample.org"
        hosts = inside(host, container, "cat /etc/hosts")
        assert "192.0.2.7\tredis" in hosts
        assert "2001:db8::6\tsix" in hosts
        dns = inside(host, container, "cat /etc/resolv.conf")
        assert "nameserver 192.0.2.53" in dns
        assert "search example.org" in dns
        assert inside(host, container, "cat /tmp/of-host /read/of-host") == "hellohello"
        assert inside(host, container, "touch /read/x || touch /of-parent/x || echo no") == "no"
        assert inside(host, container, "touch /own/x /tmp/x; test -c /dev/cstest; echo $?") == "0"
        status = inside(host, container, "cat /proc/1/status")
        assert "Uid:\t1000\t" in status
        assert "Gid:\t1001\t" in status
        assert b"8000 says a = b" in host.engine.logs(container)
        bounding = next(line for line in status.splitlines() if line.startswith("CapBnd:"))
        assert capabilities(bounding.split()[1]) == {"NET_ADMIN"}
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/of-host", timeout=30) as answer:
            assert answer.read() == b"hello"


def test_without_a_wish_a_server_is_walled_off(host: Host, service: assembly.Service) -> None:
    document = {"command": ["sh", "-c", SLEEP]}
    with server(host, service, policy.Rules(), document) as container:
        status = dict(
            line.split(":\t", 1)
            for line in inside(host, container, "cat /proc/1/status").splitlines()
            if ":\t" in line
        )
        assert capabilities(status["CapBnd"]) == {"CHOWN"}
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
        tries = (
            "echo 1 >/proc/sys/kernel/sysrq",
            "echo b >/proc/sysrq-trigger",
            "echo 1 >/sys/kernel/mm/ksm/run",
            "mount -t tmpfs none /mnt",
            "mknod /tmp/sda b 8 0",
            "hostname other",
            "test -s /proc/kcore",
            "ip link add cstest type dummy",
            "ls /var/run/docker.sock",
        )
        for each in tries:
            assert inside(host, container, f"({each}) 2>&- || echo refused") == "refused", each
        assert inside(host, container, "ls /sys/class/net") == "lo"
        assert shared_namespaces(host, container) == set()


def test_the_hosts_namespaces_are_shared_only_where_allowed(
    host: Host, service: assembly.Service
) -> None:
    document = {
        "command": ["sh", "-c", SLEEP],
        "HostConfig": {"PidMode": "host", "IpcMode": "host", "SecurityOpt": ["seccomp=unconfined"]},
    }
    rules = policy.Rules(
        allowed_host_namespaces=("pid", "ipc"), allowed_security_options=("seccomp=unconfined",)
    )
    with server(host, service, rules, document) as container:
        assert shared_namespaces(host, container) == {"pid", "ipc"}
        assert "Seccomp:\t0" in inside(host, container, "cat /proc/self/status")


def test_everybody_in_a_server_can_read_its_drive_and_nobody_write(
    host: Host, service: assembly.Service
) -> None:
    files = {"openstack/latest/user_data": b"#!/bin/sh\n", "openstack/latest/meta_data.json": b"{}"}
    document = {"command": ["sh", "-c", SLEEP]}
    with server(host, service, policy.Rules(), document, files=files) as container:
        drive = f"{spec.CONFIG_DRIVE}/openstack/latest"
        script = f"cat {drive}/user_data {drive}/meta_data.json; touch {drive}/x 2>&- || echo no"
        assert inside(host, container, script, "1234") == "#!/bin/sh\n{}no"
        assert inside(host, container, f"touch {drive}/x 2>&- || echo no") == "no"


def test_a_key_lets_its_user_in_besides_whom_the_image_lets_in(
    host: Host, service: assembly.Service
) -> None:
    document = {"command": ["sh", "-c", SLEEP]}
    with server(host, service, policy.Rules(), document, key="ssh-ed25519 AAAA me\n") as container:
        listed = "cd /root/.ssh; cat authorized_keys; stat -c %a%u . authorized_keys"
        assert inside(host, container, listed) == "ssh-ed25519 AAAA me\n7000\n6000"
        for key in ("ssh-rsa BBBB you", "ssh-ed25519 AAAA me"):
            keys.inject(host.engine, container, key)
        said = inside(host, container, "cat /root/.ssh/authorized_keys")
        assert said == "ssh-ed25519 AAAA me\nssh-rsa BBBB you"
        # The image's links lead nowhere outside of it.
        inside(host, container, "rm -r /root/.ssh; mkdir /x; ln -s /x /root/.ssh")
        keys.inject(host.engine, container, "ssh-rsa CCCC they")
        assert inside(host, container, "cat /root/.ssh/authorized_keys") == "ssh-rsa CCCC they"
    for key in ("", "a\nb", "a\0b"):
        with pytest.raises(exceptions.InvalidRequest):
            keys.inject(host.engine, "nobody", key)
