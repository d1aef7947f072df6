# SPDX-License-Identifier: Apache-2.0
"""A real Active Directory: Samba's domain controller in a container, made from Debian packages."""

import contextlib
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping

from container_stack.host import containers, images

from . import debian_image

REALM, SHORT = "corp.example", "CORP"
ADMIN, PASSWORD = "Administrator", "Only-4-Tests"
RECIPE = debian_image.Recipe(
    "domain",
    (
        "python3-samba",
        "samba-ad-dc",
        "samba-ad-provision",
        "samba-dsdb-modules",
        "smbclient",
        "winbind",
    ),
    {
        "etc/passwd": "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
        "etc/group": "root:x:0:\nusers:x:100:\nnogroup:x:65534:\n",
        "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    },
)
#: SYS_ADMIN keeps Windows' ACLs with files.
CAPABILITIES = (
    *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"),
    "SYS_ADMIN",
)
SERVE = """
rm -f /etc/samba/smb.conf
mkdir -p /var/lib/samba/private /var/lib/samba/bind-dns /var/cache/samba /var/log/samba /run/samba
samba-tool domain provision --server-role=dc --dns-backend=SAMBA_INTERNAL --host-name=dc1 \
    --realm="$1" --domain="$2" --adminpass="$3" --host-ip="$4" --option="interfaces=lo eth0" \
    --option="tls enabled=no" >/var/log/provision 2>&1 || { cat /var/log/provision; exit 1; }
exec samba -i --debug-stdout
"""
#: DNS with what it says of the domain; Kerberos, LDAP and SMB.
ANSWERS = f"""
nslookup -type=srv _kerberos._tcp.{REALM} 127.0.0.1 | grep -q dc1 &&
for port in 58 185 1BD; do grep -q ":0*$port 0*:0000 0A " /proc/net/tcp || exit 1; done
"""


class Controller:
    """A controller that runs."""

    def __init__(self, engine: containers.Engine, container_id: str, address: str) -> None:
        self.engine = engine
        self.id = container_id
        self.address = address

    def tool(self, *words: str, stdin: str = "") -> str:
        """Run samba-tool and return what it printed."""
        argv = ["samba-tool", *words]
        result = self.engine.exec(self.id, argv, stdin=stdin.encode(), timeout=60.0)
        assert result.exit_code == 0, result.stderr.decode()
        return result.stdout.decode()

    def user(self, name: str) -> str:
        """Make a user and return his password."""
        password = f"{uuid.uuid4().hex}-A"
        self.tool("user", "create", name, password)
        return password

    def group(self, name: str, *members: str) -> None:
        self.tool("group", "add", name)
        self.tool("group", "addmembers", name, ",".join(members))

    def computers(self) -> list[str]:
        """Return the accounts of the members, without the controller's own."""
        return sorted(set(self.tool("computer", "list").split()) - {"DC1$"})

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Answer nobody while the body runs."""
        subprocess.run(["docker", "pause", self.id], check=True, capture_output=True)
        try:
            yield
        finally:
            subprocess.run(["docker", "unpause", self.id], check=True, capture_output=True)

    def said(self) -> str:
        """Return the last that the controller and its provision said."""
        argv = ["sh", "-c", "tail -n 20 /var/log/provision /proc/net/tcp"]
        log = subprocess.run(
            ["docker", "logs", self.id], capture_output=True, text=True, check=True
        )
        return self.engine.exec(self.id, argv).stdout.decode() + log.stdout[-3000:]

    def wait_until_ready(self) -> None:
        end = time.monotonic() + 120
        while self.engine.exec(self.id, ["sh", "-c", ANSWERS], timeout=20.0).exit_code:
            assert time.monotonic() < end, self.said()
            assert self.engine.inspect(self.id).state == "running", "the controller ended"
            time.sleep(0.3)


@contextlib.contextmanager
def running(
    engine: containers.Engine, network: str, address: str, labels: Mapping[str, str]
) -> Iterator[Controller]:
    """Run a controller at this address of a network of the engine's."""
    spec = containers.ContainerSpec(
        name=f"cstest-{uuid.uuid4().hex[:8]}",
        image=RECIPE.made(images.Images(engine)),
        labels=labels,
        command=["sh", "-ec", SERVE, "sh", REALM, SHORT, PASSWORD, address],
        network=network,
        address4=address,
        hostname="dc1",
        # On a disk the provision would wait for thousands of flushes.
        mounts=[containers.Mount("", "/var/lib/samba", kind="tmpfs", size=512 * 1024**2)],
        environment={"TDB_NO_FSYNC": "1"},
        dns=["127.0.0.1"],
        capabilities=CAPABILITIES,
    )
    with contextlib.ExitStack() as undo:
        container_id = engine.run(spec)
        undo.callback(engine.remove, container_id)
        controller = Controller(engine, container_id, address)
        controller.wait_until_ready()
        yield controller
