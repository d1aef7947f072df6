# SPDX-License-Identifier: Apache-2.0
"""A real LDAP directory with Samba's schema: slapd in a container, with a certificate."""

import contextlib
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from container_stack.host import containers, images

from . import debian_image

BASE, DOMAIN, SHORT = "dc=corp,dc=example", "corp.example", "CORP"
#: The number of Samba's domain, with which those of its users begin.
SID = "S-1-5-21-1111111111-222222222-3333333333"
#: Who may read, and who may write.
READER, PASSWORD = f"cn=reader,{BASE}", "Only-4-Tests"
ADMIN, ADMIN_PASSWORD = f"cn=admin,{BASE}", "Only-4-Writing"
SCHEMA = "usr/share/doc/samba/examples/LDAP/samba.schema"
RECIPE = debian_image.Recipe(
    "ldap",
    ("ldap-utils", "samba", "slapd"),
    {
        "etc/passwd": "root:x:0:0::/:/bin/sh\n",
        "etc/group": "root:x:0:\n",
        "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
        "etc/slapd.conf": f"""\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
include /{SCHEMA}
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCertificateFile /run/tls/server.pem
TLSCertificateKeyFile /run/tls/server.key
localSSF 256
security simple_bind=128
database mdb
suffix {BASE}
directory /run/data
rootdn {ADMIN}
rootpw {ADMIN_PASSWORD}
index objectClass,uid,sambaSID,sambaDomainName eq
access to attrs=userPassword by anonymous auth
access to * by dn.exact="{READER}" read
""",
    },
    kept=(SCHEMA,),
)
PEOPLE = f"""\
dn: {BASE}
objectClass: dcObject
objectClass: organization
o: Corp

dn: ou=People,{BASE}
objectClass: organizationalUnit

dn: {READER}
objectClass: person
sn: Reader
userPassword: {PASSWORD}

dn: sambaDomainName={SHORT},{BASE}
objectClass: sambaDomain
sambaSID: {SID}
"""
SERVE = """
mkdir -p /run/data /run/tls
printf '%s' "$1" >/run/tls/server.pem
printf '%s' "$2" >/run/tls/server.key
printf '%s' "$3" | slapadd -q -f /etc/slapd.conf
exec slapd -d stats -f /etc/slapd.conf -h "ldap:/// ldapi://%2frun%2fldapi"
"""


class Directory:
    """A directory that runs.

    :param ca: the file with the certificate of who signed the server's.
    """

    def __init__(
        self, engine: containers.Engine, container_id: str, address: str, ca: Path
    ) -> None:
        self.engine = engine
        self.id = container_id
        self.address = address
        self.ca = ca

    def write(self, ldif: str) -> None:
        """Make changes, as its administrator."""
        self._tool("ldapmodify", stdin=ldif)

    def everything(self) -> str:
        """Return all that is in it."""
        return self._tool("ldapsearch", "-LLL", "-b", BASE, "*", "+")

    def user(self, name: str, rid: int) -> str:
        """Make a user and return his password."""
        password = f"{uuid.uuid4().hex}-A"
        self.write(f"""\
dn: uid={name},ou=People,{BASE}
changetype: add
objectClass: inetOrgPerson
objectClass: posixAccount
objectClass: sambaSamAccount
cn: {name}
sn: {name}
uidNumber: {rid}
gidNumber: 1000
homeDirectory: /
sambaSID: {SID}-{rid}
sambaAcctFlags: [U          ]
sambaPwdLastSet: 1700000000
sambaNTPassword: {nt_hash(password)}
""")
        return password

    def group(self, name: str, rid: int, number: int) -> None:
        """Make a group that Samba knows."""
        self.write(f"""\
dn: cn={name},{BASE}
changetype: add
objectClass: posixGroup
objectClass: sambaGroupMapping
gidNumber: {number}
sambaSID: {SID}-{rid}
sambaGroupType: 2
""")

    def change(self, name: str, attribute: str, value: str) -> None:
        """Give a user's attribute another value."""
        self.write(
            f"dn: uid={name},ou=People,{BASE}\nchangetype: modify\n"
            f"replace: {attribute}\n{attribute}: {value}\n"
        )

    def password(self, name: str) -> str:
        """Give a user another password and return it."""
        password = f"{uuid.uuid4().hex}-A"
        self.change(name, "sambaNTPassword", nt_hash(password))
        return password

    def remove(self, name: str) -> None:
        self.write(f"dn: uid={name},ou=People,{BASE}\nchangetype: delete\n")

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Answer nobody while the body runs."""
        subprocess.run(["docker", "pause", self.id], check=True, capture_output=True)
        try:
            yield
        finally:
            subprocess.run(["docker", "unpause", self.id], check=True, capture_output=True)

    def wait_until_ready(self) -> None:
        end = time.monotonic() + 60
        argv = ["ldapsearch", *_AS_ADMIN, "-b", BASE, "-s", "base"]
        while self.engine.exec(self.id, argv, timeout=20.0).exit_code:
            assert time.monotonic() < end, "slapd doesn't answer"
            assert self.engine.inspect(self.id).state == "running", "slapd ended"
            time.sleep(0.1)

    def _tool(self, *words: str, stdin: str = "") -> str:
        argv = [words[0], *_AS_ADMIN, *words[1:]]
        result = self.engine.exec(self.id, argv, stdin=stdin.encode(), timeout=60.0)
        assert result.exit_code == 0, result.stderr.decode()
        return result.stdout.decode()


_AS_ADMIN = ("-H", "ldapi://%2frun%2fldapi", "-x", "-D", ADMIN, "-w", ADMIN_PASSWORD)


def nt_hash(password: str) -> str:
    """Return what Samba keeps of a password."""
    argv = ["openssl", "dgst", "-md4", "-provider", "legacy", "-binary"]
    text = password.encode("utf-16-le")
    return subprocess.run(argv, input=text, capture_output=True, check=True).stdout.hex().upper()


def certificates(directory: Path, address: str) -> None:
    """Write a CA's certificate, and a server's that is good for this address."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True)

    new = ("req", "-newkey", "rsa:2048", "-nodes", "-batch")
    openssl(*new, "-x509", "-subj", "/CN=cstest CA", "-keyout", "ca.key", "-out", "ca.pem")
    (directory / "extensions").write_text(f"subjectAltName=IP:{address}")
    openssl(*new, "-subj", "/CN=ldap", "-keyout", "server.key", "-out", "server.csr")
    openssl(
        *("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key"),
        *("-CAcreateserial", "-extfile", "extensions", "-out", "server.pem"),
    )


@contextlib.contextmanager
def running(
    engine: containers.Engine,
    network: str,
    address: str,
    labels: Mapping[str, str],
    directory: Path,
) -> Iterator[Directory]:
    """Run a directory at this address of a network of the engine's."""
    certificates(directory, address)
    texts = [(directory / name).read_text() for name in ("server.pem", "server.key")]
    spec = containers.ContainerSpec(
        name=f"cstest-{uuid.uuid4().hex[:8]}",
        image=RECIPE.made(images.Images(engine)),
        labels=labels,
        command=["sh", "-ec", SERVE, "sh", *texts, PEOPLE],
        network=network,
        address4=address,
        mounts=[containers.Mount("", "/run", kind="tmpfs", size=256 * 1024**2)],
        capabilities=("NET_BIND_SERVICE",),
    )
    with contextlib.ExitStack() as undo:
        container_id = engine.run(spec)
        undo.callback(engine.remove, container_id)
        made = Directory(engine, container_id, address, directory / "ca.pem")
        made.wait_until_ready()
        yield made
