# SPDX-License-Identifier: Apache-2.0
"""A share server's promises, kept before real SMB clients."""

import concurrent.futures
import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from smbprotocol import connection
from smbprotocol import exceptions as smb_exceptions

from container_stack import exceptions
from container_stack.host import containers
from container_stack.shares import cifs, container

from . import smb_client
from .share_server import NET4, NET6, ShareServer
from .share_server import make_server as make_server
from .share_server import network as network
from .share_server import samba_image as samba_image
from .share_server import server as server
from .share_server import share as share

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")

ALICE, BOB, CAROL = (cifs.Rule("user", name) for name in ("alice", "bob", "carol"))
BOB_READS = cifs.Rule("user", "bob", "ro")
REFUSED = smb_exceptions.SMBException
CUT = smb_exceptions.NetworkNameDelegated

Connect = Callable[..., smb_client.Client]


@pytest.fixture
def connect(server: ShareServer, share: str) -> Iterator[Connect]:
    """A function that opens a session of a user on the share."""
    opened: list[smb_client.Client] = []

    def connect(user: str, password: str, **values: object) -> smb_client.Client:
        made = smb_client.Client(server.address, share, user, password, **values)  # type: ignore[arg-type]
        opened.append(made)
        return made

    yield connect
    for each in opened:
        each.close()


def run(
    server: ShareServer, share: str, user: str, password: str, commands: str, cwd: Path, *more: str
) -> tuple[int, str]:
    done = smb_client.smbclient(server.address, share, user, password, commands, *more, cwd=cwd)
    return done.returncode, done.stdout + done.stderr


# Who gets in -----------------------------------------------------------------------------------


def test_user_with_a_rule_writes_and_reads_a_tree_of_files(
    server: ShareServer, share: str, tmp_path: Path
) -> None:
    key = server.samba.set_share(share, [ALICE])["alice"]
    source = tmp_path / "source" / "Grüße 🎁" / "deep"
    source.mkdir(parents=True)
    content = os.urandom(3_000_001)
    (source / "große Datei.bin").write_bytes(content)
    (tmp_path / "back").mkdir()
    put = "prompt off; recurse on; lcd source; mput *"
    get = "prompt off; recurse on; lcd back; mget *"
    assert run(server, share, "alice", key, put, tmp_path)[0] == 0
    assert run(server, share, "alice", key, get, tmp_path)[0] == 0
    back = tmp_path / "back" / "Grüße 🎁" / "deep" / "große Datei.bin"
    assert back.read_bytes() == content
    data = server.directory / share / "data"
    assert (data / "Grüße 🎁" / "deep" / "große Datei.bin").read_bytes() == content


def test_a_new_user_gets_the_password_that_he_had_elsewhere_and_a_known_one_keeps_his(
    server: ShareServer, share: str, connect: Connect
) -> None:
    theirs = {"alice": "a1" * 20, "carol": "c3" * 20}
    assert server.samba.set_share(share, [ALICE], theirs) == {"alice": "a1" * 20}
    connect("alice", "a1" * 20)
    for other in ("b2" * 20, ""):
        with contextlib.suppress(exceptions.CommandFailed):
            server.samba.set_share(share, [ALICE], {"alice": other})
        assert server.samba.set_share(share, [ALICE]) == {"alice": "a1" * 20}
    for odd in ("a1" * 19, "A1" * 20, "$(id)", "a1" * 20 + " b"):
        with pytest.raises(exceptions.CommandFailed):
            server.samba.set_share(share, [ALICE], {"alice": odd})


def test_ipv6_clients_are_served(server: ShareServer, share: str, tmp_path: Path) -> None:
    key = server.samba.set_share(share, [ALICE, cifs.Rule("ip", f"{NET6}:/64")])["alice"]
    address = server.spec.address6
    assert address
    done = smb_client.smbclient(address, share, "alice", key, "mkdir a", cwd=tmp_path)
    assert done.returncode == 0, done.stdout


def test_user_who_may_read_cannot_write(server: ShareServer, share: str, tmp_path: Path) -> None:
    keys = server.samba.set_share(share, [ALICE, BOB_READS])
    (tmp_path / "a").write_text("from alice")
    assert run(server, share, "alice", keys["alice"], "put a", tmp_path)[0] == 0
    code, said = run(server, share, "bob", keys["bob"], "get a b", tmp_path)
    assert code == 0, said
    assert (tmp_path / "b").read_text() == "from alice"
    for command in ("put b", "rm a", "mkdir c", "rename a d"):
        _, said = run(server, share, "bob", keys["bob"], command, tmp_path)
        assert "NT_STATUS_ACCESS_DENIED" in said or "MEDIA_WRITE_PROTECTED" in said, (command, said)
    assert os.listdir(server.directory / share / "data") == ["a"]


def test_nobody_else_gets_in(server: ShareServer, share: str, tmp_path: Path) -> None:
    other = f"{share}-other"
    server.mount(other)
    key = server.samba.set_share(share, [ALICE])["alice"]
    others = server.samba.set_share(other, [CAROL])["carol"]
    logins = {
        "unknown": ("mallory", key),
        "wrong password": ("alice", "0" * 40),
        "no password": ("alice", ""),
        "another share's user": ("carol", others),
        "guest": ("guest", ""),
        "nobody": ("nobody", ""),
        "root": ("root", ""),
    }
    for who, (user, password) in logins.items():
        code, said = run(server, share, user, password, "ls", tmp_path)
        assert code == 1, who
        assert "NT_STATUS_LOGON_FAILURE" in said or "NT_STATUS_ACCESS_DENIED" in said, (who, said)
    for options in (("-N",), ("-N", "-U", "%")):
        code, said = run(server, share, "", "", "ls", tmp_path, *options)
        assert code == 1
        assert "NT_STATUS_ACCESS_DENIED" in said
    server.samba.remove_share(other)
    server.unmount(other)


def test_users_reach_the_server_but_are_told_no_names_of_shares(
    server: ShareServer, share: str, tmp_path: Path
) -> None:
    key = server.samba.set_share(share, [ALICE])["alice"]
    login = tmp_path / "login"
    login.write_text(f"username = alice\npassword = {key}\n")
    listed = subprocess.run(
        ["smbclient", "-L", server.address, "-A", str(login)], capture_output=True, check=False
    )
    assert listed.returncode == 0, listed
    assert b"Sharename" in listed.stdout
    assert share.encode() not in listed.stdout
    assert smb_client.smbclient(server.address, "IPC$", "", "", "ls", "-N", cwd=tmp_path).returncode


@pytest.mark.parametrize("name", ["everyone", "users", "network", "nogroup", "administrators"])
def test_user_named_like_a_group_is_only_himself(
    server: ShareServer, share: str, tmp_path: Path, name: str
) -> None:
    other = f"{share}-other"
    server.mount(other)
    key = server.samba.set_share(other, [ALICE])["alice"]
    own = server.samba.set_share(share, [cifs.Rule("user", name)])[name]
    assert run(server, share, "alice", key, "ls", tmp_path)[0] == 1
    assert run(server, share, name, own, "ls", tmp_path)[0] == 0
    server.samba.remove_share(other)
    server.unmount(other)


@pytest.mark.parametrize(
    "rules", [[], [cifs.Rule("ip", "0.0.0.0/0")]], ids=["no rules", "networks only"]
)
def test_without_user_rules_nobody_gets_in(
    server: ShareServer, share: str, tmp_path: Path, rules: list[cifs.Rule]
) -> None:
    key = server.samba.set_share(share, [ALICE])["alice"]
    assert server.samba.set_share(share, rules) == {}
    assert run(server, share, "alice", key, "ls", tmp_path)[0] == 1
    assert run(server, share, "", "", "ls", tmp_path, "-N")[0] == 1
    assert share not in server.samba.shares()


def test_section_without_valid_users_admits_nobody(
    server: ShareServer, share: str, tmp_path: Path
) -> None:
    key = server.samba.set_share(share, [ALICE])["alice"]
    text = f"[{share}]\npath = /shares/{share}/data\nread only = no\n"
    assert server.run("net", "conf", "import", "/dev/stdin", share, stdin=text).exit_code == 0
    assert run(server, share, "alice", key, "ls", tmp_path)[0] == 1


def test_old_dialects_plain_text_and_unsigned_requests_are_refused(
    server: ShareServer, share: str, connect: Connect
) -> None:
    key = server.samba.set_share(share, [ALICE])["alice"]
    dialects = connection.Dialects
    for dialect in (dialects.SMB_2_0_2, dialects.SMB_2_1_0):
        with pytest.raises(REFUSED):
            connect("alice", key, dialect=dialect)
    for signed in (True, False):
        client = connect("alice", key)
        client.talk_in_the_clear(signed=signed)
        with pytest.raises(REFUSED):
            client.open("file")
    for dialect in (dialects.SMB_3_0_0, dialects.SMB_3_0_2, dialects.SMB_3_1_1):
        connect("alice", key, dialect=dialect).open("file").write(b"x")


# Changes under live sessions -------------------------------------------------------------------


def is_cut(file: smb_client.File, within: float = 1.0) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            file.write(b"still")
        except CUT:
            return True
        time.sleep(0.02)
    return False


def test_revoking_a_user_cuts_his_live_session_and_nobody_elses(
    server: ShareServer, share: str, connect: Connect
) -> None:
    keys = server.samba.set_share(share, [ALICE, BOB, CAROL])
    files = {user: connect(user, key).open(user) for user, key in keys.items()}
    server.samba.set_share(share, [ALICE, CAROL])
    assert is_cut(files["bob"])
    for user in ("alice", "carol"):
        files[user].write(b"goes on")
        assert files[user].read(7) == b"goes on"
    with pytest.raises(REFUSED):
        connect("bob", keys["bob"])


def test_setting_the_same_rules_again_disturbs_nobody(
    server: ShareServer, share: str, connect: Connect
) -> None:
    rules = [ALICE, BOB_READS, cifs.Rule("ip", f"{NET4}.0/24")]
    keys = server.samba.set_share(share, rules)
    file = connect("alice", keys["alice"]).open("file")
    reader = connect("bob", keys["bob"]).open("file", write=False)
    assert server.samba.set_share(share, rules) == keys
    file.write(b"undisturbed")
    assert reader.read(11) == b"undisturbed"


def test_user_who_may_no_longer_write_cannot_in_his_live_session(
    server: ShareServer, share: str, connect: Connect
) -> None:
    keys = server.samba.set_share(share, [ALICE, BOB])
    files = {user: connect(user, key).open(user) for user, key in keys.items()}
    server.samba.set_share(share, [ALICE, BOB_READS])
    assert is_cut(files["bob"])
    files["alice"].write(b"goes on")
    client = connect("bob", keys["bob"])
    client.open("alice", write=False)
    with pytest.raises(smb_exceptions.AccessDenied):
        client.open("bob")


def test_user_who_may_write_from_now_on_can_when_he_connects_next(
    server: ShareServer, share: str, connect: Connect
) -> None:
    keys = server.samba.set_share(share, [ALICE, BOB_READS])
    file = connect("alice", keys["alice"]).open("file")
    client = connect("bob", keys["bob"])
    server.samba.set_share(share, [ALICE, BOB])
    client.reconnect()
    client.open("file").write(b"written")
    file.write(b"goes on")


def test_session_opens_a_share_that_is_made_after_it(
    server: ShareServer, share: str, connect: Connect
) -> None:
    key = server.samba.set_share(share, [ALICE])["alice"]
    client = connect("alice", key)
    other = f"{share}-later"
    server.mount(other)
    server.samba.set_share(other, [ALICE])
    client.reconnect(rf"\\{server.address}\{other}")
    client.open("file").write(b"x")
    server.samba.remove_share(other)
    server.unmount(other)


def test_removing_a_network_cuts_its_clients_and_no_others(
    server: ShareServer, share: str, connect: Connect
) -> None:
    one, two = (cifs.Rule("ip", f"{NET4}.{number}") for number in (1, 2))
    key = server.samba.set_share(share, [ALICE, one, two])["alice"]
    files = [
        connect("alice", key, source=f"{NET4}.{number}").open(f"file{number}") for number in (1, 2)
    ]
    server.samba.set_share(share, [ALICE, one])
    assert is_cut(files[1])
    files[0].write(b"goes on")
    with pytest.raises(REFUSED):
        connect("alice", key, source=f"{NET4}.2")


@pytest.mark.parametrize("rule", ["fd00:1::1", "fd00:1::/100", "fd00:1::/64", "10.1.0.0/16"])
def test_network_admits_no_other_network(
    server: ShareServer, share: str, tmp_path: Path, rule: str
) -> None:
    key = server.samba.set_share(share, [ALICE, cifs.Rule("ip", rule)])["alice"]
    assert server.spec.address6
    for address in (server.address, server.spec.address6):
        done = smb_client.smbclient(address, share, "alice", key, "ls", cwd=tmp_path)
        assert done.returncode == 1, done.stdout
        assert "NT_STATUS_ACCESS_DENIED" in done.stdout


@pytest.mark.parametrize("rule", [f"{NET6}:1", f"{NET6}:/120", f"{NET6}:/64", "::/0"])
def test_network_of_ipv6_admits_its_own(
    server: ShareServer, share: str, tmp_path: Path, rule: str
) -> None:
    key = server.samba.set_share(share, [ALICE, cifs.Rule("ip", rule)])["alice"]
    assert server.spec.address6
    done = smb_client.smbclient(server.spec.address6, share, "alice", key, "ls", cwd=tmp_path)
    assert done.returncode == 0, done.stdout


# Files and accounts ----------------------------------------------------------------------------


def test_users_edit_each_others_files(server: ShareServer, share: str, tmp_path: Path) -> None:
    keys = server.samba.set_share(share, [ALICE, BOB])
    (tmp_path / "a").write_text("of alice")
    (tmp_path / "b").write_text("changed by bob")
    made = "mkdir d; put a d\\f; put a d\\g; put a d\\h; mkdir d\\e"
    assert run(server, share, "alice", keys["alice"], made, tmp_path)[0] == 0
    edit = "put b d\\f; rm d\\g; rename d\\h d\\i; rmdir d\\e; mkdir d\\j; setmode d\\f +h"
    edit += "; utimes d\\f -1 -1 2020:01:01-00:00:00 -1; setmode d\\f -h"
    code, said = run(server, share, "bob", keys["bob"], edit, tmp_path)
    assert (code, "NT_STATUS" in said) == (0, False), said
    data = server.directory / share / "data" / "d"
    assert sorted(os.listdir(data)) == ["f", "i", "j"]
    assert (data / "f").read_text() == "changed by bob"
    code, said = run(server, share, "alice", keys["alice"], "put a d\\f; rmdir d\\j", tmp_path)
    assert (code, "NT_STATUS" in said) == (0, False), said


def test_user_has_one_password_on_a_server_until_no_rule_names_him(
    server: ShareServer, share: str
) -> None:
    other = f"{share}-b"
    server.mount(other)
    first = server.samba.set_share(share, [ALICE, BOB])
    assert server.samba.set_share(other, [ALICE]) == {"alice": first["alice"]}
    assert len({*first.values()}) == 2
    assert all(len(key) * 4 >= 128 for key in first.values())
    server.samba.set_share(share, [BOB])
    assert server.samba.set_share(share, [ALICE, BOB]) == first
    server.samba.remove_share(other)
    server.samba.set_share(share, [BOB])
    accounts = server.run("pdbedit", "-L").stdout + server.run("cat", "/etc/passwd").stdout
    assert b"alice" not in accounts
    assert server.samba.set_share(share, [ALICE])["alice"] != first["alice"]
    server.unmount(other)


def test_passwords_are_in_no_log_and_for_root_only(server: ShareServer, share: str) -> None:
    key = server.samba.set_share(share, [ALICE])["alice"]
    assert key.encode() not in server.engine.logs(server.id)
    found = server.run("ls", "-l", "/var/lib/samba/private/keys").stdout.decode()
    assert [line.split()[0] for line in found.splitlines()[1:]] == ["-rw-------"]


# Shares and their volumes ----------------------------------------------------------------------


def test_share_without_its_volume_is_refused_and_nothing_is_written(server: ShareServer) -> None:
    directory = server.directory / "share-bare"
    directory.mkdir()
    with pytest.raises(exceptions.CommandFailed, match="isn't mounted"):
        server.samba.set_share("share-bare", [ALICE])
    for path in ("/shares/share-bare/data", "/shares/new", "/etc/new", "/usr/new"):
        assert server.run("mkdir", path).exit_code != 0
    assert not os.listdir(directory)
    assert "share-bare" not in server.samba.shares()


def test_removed_share_can_be_unmounted_at_once(
    server: ShareServer, share: str, connect: Connect
) -> None:
    keys = server.samba.set_share(share, [ALICE, BOB])
    files = [connect(user, key).open(user) for user, key in keys.items()]
    for file in files:
        file.write(b"x" * 100_000)
    server.samba.remove_share(share)
    server.unmount(share)
    assert all(map(is_cut, files))
    server.mount_again(share)


def test_taking_all_rules_away_cuts_everybody(
    server: ShareServer, share: str, connect: Connect
) -> None:
    keys = server.samba.set_share(share, [ALICE, BOB])
    files = [connect(user, key).open(user) for user, key in keys.items()]
    server.samba.set_share(share, [])
    assert all(map(is_cut, files))


def test_removing_is_idempotent(server: ShareServer, share: str) -> None:
    server.samba.set_share(share, [ALICE])
    for _ in range(2):
        server.samba.remove_share(share)
    assert share not in server.samba.shares()


def test_shares_and_sessions_are_told(server: ShareServer, share: str, connect: Connect) -> None:
    networks = {f"{NET4}.0/24", "fd00:1::/120", "fd00:2::5/128"}
    rules = {ALICE, BOB_READS, *(cifs.Rule("ip", each) for each in networks)}
    keys = server.samba.set_share(share, rules)
    assert server.samba.shares() == {share: rules}
    client = connect("alice", keys["alice"])
    (session,) = [each for each in server.samba.sessions() if each.shares]
    assert (session.user, session.address) == ("alice", f"{NET4}.1")
    assert session.shares == (share,)
    assert (session.dialect, session.cipher) == ("SMB3_11", "AES-128-GCM")
    client.open("still works")


def test_many_changes_at_once_all_take_effect(server: ShareServer) -> None:
    names = [f"share-many-{number}" for number in range(6)]
    for name in names:
        server.mount(name)
    wanted = {name: {cifs.Rule("user", f"user{number % 4}")} for number, name in enumerate(names)}
    with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
        answers = list(pool.map(lambda name: server.samba.set_share(name, wanted[name]), names))
    assert server.samba.shares() == wanted
    for number in (0, 1):
        assert answers[number] == answers[number + 4]
    with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(server.samba.remove_share, names))
    assert server.samba.shares() == {}
    for name in names:
        server.unmount(name)


def test_change_that_is_killed_anywhere_is_repaired_by_the_next(
    server: ShareServer, share: str, tmp_path: Path
) -> None:
    steps = [[ALICE, BOB], [CAROL, BOB_READS], [], [CAROL, cifs.Rule("ip", f"{NET4}.0/24")]]
    before: list[cifs.Rule] = []
    for number in range(24):
        rules = steps[number % len(steps)]
        document = f"{cifs.section(share, rules)}end\n".encode()
        argv = ["timeout", "-s", "KILL", str(0.01 + number * 0.012)]
        argv += [cifs.SHARE_SERVER, "set", share]
        server.engine.exec(server.id, argv, stdin=document)
        known = server.samba.shares().get(share, frozenset())
        assert known in (frozenset(before), frozenset(rules)), "never anything in between"
        keys = server.samba.set_share(share, rules)
        users = {rule.to for rule in rules if rule.kind == "user"}
        assert set(keys) == users
        accounts = server.run("pdbedit", "-L").stdout.decode().split()
        assert {account.split(":")[0] for account in accounts} == users
        for user, key in keys.items():
            assert run(server, share, user, key, "ls", tmp_path)[0] == 0, (number, user)
        before = rules


# The container ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_shares_users_and_passwords_survive(
    server: ShareServer, share: str, tmp_path: Path, how: str
) -> None:
    keys = server.samba.set_share(share, [ALICE, BOB_READS])
    if how == "kill":
        server.engine.kill(server.id)
    else:
        server.engine.stop(server.id)
    server.engine.start(server.id)
    server.samba.wait_ready(20)
    assert server.samba.shares() == {share: {ALICE, BOB_READS}}
    for user, key in keys.items():
        assert run(server, share, user, key, "ls", tmp_path)[0] == 0
    assert server.samba.set_share(share, [ALICE, BOB_READS]) == keys


def test_server_stops_at_once_when_told(server: ShareServer, share: str, connect: Connect) -> None:
    key = server.samba.set_share(share, [ALICE])["alice"]
    connect("alice", key).open("file")
    started = time.monotonic()
    server.engine.stop(server.id, timeout=10)
    assert time.monotonic() - started < 8
    server.engine.start(server.id)
    server.samba.wait_ready(20)


def test_broken_smbd_is_not_ready(server: ShareServer) -> None:
    answer = server.share_server("ready", "0")
    assert (answer.exit_code, answer.stdout) == (0, b"")
    assert server.share_server("ready", "-1").exit_code == 2


def test_server_has_no_privilege_and_sees_no_other_servers_share(
    make_server: Callable[[], ShareServer], server: ShareServer, share: str
) -> None:
    other = make_server()
    other.mount("share-of-another")
    other.samba.set_share("share-of-another", [BOB])
    server.samba.set_share(share, [ALICE])
    status = server.run("cat", "/proc/1/status").stdout.decode()
    facts = dict(line.split(":\t", 1) for line in status.splitlines())
    assert {facts[each] for each in ("CapPrm", "CapEff", "CapBnd")} == {f"{0b11001000:016x}"}
    assert facts["NoNewPrivs"] == "1"
    mounts = server.run("cat", "/proc/self/mountinfo").stdout.decode()
    assert "share-of-another" not in mounts
    assert other.spec.name not in mounts
    found = server.run("ls", "/shares").stdout.decode().split()
    assert sorted(found) == sorted(os.listdir(server.directory))
    fields = [line.split() for line in mounts.splitlines()]
    engines = ("/dev", "/proc", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
    writable = {each[4] for each in fields if "rw" in each[5].split(",")}
    writable = {each for each in writable if not each.startswith(engines)}
    assert writable == {"/run", "/var/lib/samba", f"/shares/{share}"}
    assert b"share-of-another" not in server.run("net", "conf", "list").stdout
    users = server.run("pdbedit", "-L").stdout
    assert b"bob" not in users


def test_share_mounted_after_the_start_appears_without_new_rights(
    server: ShareServer, share: str
) -> None:
    mounts = server.run("cat", "/proc/self/mountinfo").stdout.decode().splitlines()
    (options,) = [line.split()[5] for line in mounts if line.split()[4] == f"/shares/{share}"]
    assert {"nosuid", "nodev", "noexec"} <= set(options.split(","))


# What the control program refuses, whoever asks --------------------------------------------------

GOOD = "path = /shares/alpha/data\nread only = no\nvalid users = alice\n"

DOCUMENTS: Mapping[str, str] = {
    "no valid users": "path = /shares/alpha/data\nread only = no\n",
    "empty valid users": "path = /shares/alpha/data\nread only = no\nvalid users = \n",
    "blank valid users": "path = /shares/alpha/data\nread only = no\nvalid users =   \t \n",
    "another share's path": GOOD.replace("alpha", "beta"),
    "a path of its own": GOOD.replace("/shares/alpha/data", "/"),
    "a path with dots": GOOD.replace("/data", "/data/../../beta"),
    "writable by default": GOOD.replace("read only = no", "read only = maybe"),
    "a group": GOOD.replace("alice", "@users"),
    "a unix group": GOOD.replace("alice", "+share"),
    "a substitution": GOOD.replace("alice", "%U"),
    "a second command": GOOD.replace("alice", "alice;id"),
    "a glob": GOOD.replace("alice", "*"),
    "an option": GOOD.replace("alice", "-alice"),
    "root": GOOD.replace("alice", "root"),
    "upper case": GOOD.replace("alice", "Alice"),
    "a long name": GOOD.replace("alice", "a" * 33),
    "a carriage return": GOOD.replace("alice", "alice\r"),
    "a parameter that runs programs": GOOD + "root preexec = /usr/bin/id\n",
    "another section": GOOD + "[global]\n",
    "an included file": GOOD + "include = /shares/alpha/data/conf\n",
    "guests": GOOD + "guest ok = yes\n",
    "a reader without access": GOOD + "read list = bob\n",
    "a dotted prefix": GOOD + "hosts allow = 10.0.0.\n",
    "everybody's address": GOOD + "hosts allow = ALL\n",
    "a host name": GOOD + "hosts allow = example.org\n",
    "all of IPv6, as Samba reads it": GOOD + "hosts allow = fd00::1/128\n",
    "a network with two masks": GOOD + "hosts allow = 10.0.0.0/8/8\n",
    "an empty line": GOOD + "\n",
}


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_control_program_refuses_a_document_with(server: ShareServer, document: str) -> None:
    before = server.run("net", "conf", "list").stdout
    answer = server.share_server("set", "alpha", stdin=f"{document}end\n")
    assert (answer.exit_code, answer.stdout) == (2, b""), answer
    assert server.run("net", "conf", "list").stdout == before


def test_control_program_refuses_a_document_that_was_cut_off(
    server: ShareServer, share: str
) -> None:
    rules = {ALICE, BOB_READS, cifs.Rule("ip", f"{NET4}.0/24")}
    keys = server.samba.set_share(share, rules)
    whole = f"{cifs.section(share, rules)}end"
    for length in (0, 1, *range(20, len(whole) - 1, 7), len(whole) - 1):
        answer = server.share_server("set", share, stdin=whole[:length])
        assert (answer.exit_code, answer.stdout) == (2, b""), whole[:length]
    assert server.samba.shares() == {share: rules}
    assert server.samba.set_share(share, rules) == keys


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/b",
        "../a",
        "global",
        "homes",
        "printers",
        "A",
        "a b",
        "a\n",
        "-a",
        "a" * 64,
        "a..b",
        "ipc$",
        "a;id",
        "$(id)",
        "%m",
        "*",
    ],
)
def test_control_program_refuses_a_share_named(server: ShareServer, name: str) -> None:
    assert server.share_server("set", name, stdin=f"{GOOD}end\n").exit_code == 2
    assert server.share_server("remove", name).exit_code == 2


@pytest.mark.parametrize(
    "words", [[], ["sh"], ["set"], ["set", "a", "b"], ["list", "x"], ["ready"], ["ready", "1;id"]]
)
def test_control_program_refuses_the_words(server: ShareServer, words: list[str]) -> None:
    assert server.share_server(*words).exit_code == 2


def test_image_that_is_missing_is_named(engine: containers.Engine, name: str) -> None:
    spec = container.spec(
        container.Settings(image="cstest-no-such-image:1"),
        name=name,
        labels={},
        shares_directory="/tmp",
        state_volume=name,
    )
    with pytest.raises(exceptions.NotFound, match="cstest-no-such-image:1"):
        engine.create(spec)
