# SPDX-License-Identifier: Apache-2.0
"""Share servers whose users are those of a real LDAP directory with Samba's schema."""

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.host import containers, network
from container_stack.shares import assembly, ldap, model, security, service
from container_stack.testing import privilege

from . import shares_host, slapd, test_shares_crash
from .slapd import PASSWORD, READER
from .smb_client import smbclient

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")

samba_image = shares_host.samba_image
host = shares_host.lasting_host

LOGIN = security.Login(READER, PASSWORD)
Rule = ldap.Rule


@pytest.fixture(scope="module")
def directory(
    engine: containers.Engine,
    host: shares_host.Host,
    test_labels: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[slapd.Directory]:
    """A directory on the network of share servers; alice and bobby are in it."""
    subnet = host.spec().subnet
    made = network.NetworkSpec(subnet.id, (containers.Subnet(subnet.cidr, subnet.gateway),))
    files = tmp_path_factory.mktemp("tls")
    with contextlib.ExitStack() as undo:
        engine.create_network(made.name, made.subnets, bridge=made.bridge, labels=test_labels)
        undo.callback(engine.remove_network, made.name)
        undo.callback(remove_servers, engine, host.owner)
        running = slapd.running(engine, made.name, f"{host.net}.5", test_labels, files)
        yield undo.enter_context(running)


def remove_servers(engine: containers.Engine, owner: str) -> None:
    for each in engine.list({"container_stack.owner": owner}):
        engine.remove(each.id)


@pytest.fixture(scope="module")
def shares(host: shares_host.Host, directory: slapd.Directory) -> service.ShareService:
    host.settings = dataclasses.replace(host.settings, trust=security.Trust(str(directory.ca)))
    return host.started()


@pytest.fixture(scope="module")
def passwords(directory: slapd.Directory) -> dict[str, str]:
    return {name: directory.user(name, 3000 + n) for n, name in enumerate(("alice", "bobby"))}


@pytest.fixture(scope="module", autouse=True)
def administrators(directory: slapd.Directory) -> None:
    """A group of the domain's administrators that has the number of the users' own group."""
    directory.group("Domain Admins", 512, 1000)


def spec_of(host: shares_host.Host, directory: slapd.Directory, number: int, **more):
    wanted = {"kind": "ldap", "domain": slapd.DOMAIN, "dns": (), "server": directory.address}
    return dataclasses.replace(
        host.spec(number), users=security.SecurityService(**{**wanted, **more})
    )


@pytest.fixture(scope="module")
def server(
    host: shares_host.Host, shares: service.ShareService, directory: slapd.Directory
) -> model.Server:
    return shares.create_server(spec_of(host, directory, 20), LOGIN)


@pytest.fixture
def share(shares: service.ShareService, server: model.Server) -> Iterator[str]:
    shares.create("share-1", server.id, shares_host.SMALL)
    yield "share-1"
    shares.delete("share-1")


@pytest.fixture
def does(server: model.Server, passwords: dict[str, str], tmp_path: Path):
    """Run commands as somebody and return what was said of it; "" is success."""
    (tmp_path / "paper").write_text("calm sea")

    def run(name: str, commands: str, password: str | None = None, share: str = "share-1") -> str:
        given = password or passwords[name]
        done = smbclient(server.spec.address, share, name, given, commands, cwd=tmp_path)
        return done.stdout + done.stderr if done.returncode or "NT_STATUS" in done.stdout else ""

    return run


WRITE, READ = "put paper; del paper", "ls"


def test_users_of_the_directory_do_what_rules_say_and_others_nothing(shares, share, does) -> None:
    assert "LOGON_FAILURE" in does("alice", READ)

    assert shares.set_rules(share, [Rule("user", "Alice"), Rule("user", "bobby", "ro")]) == {}
    assert does("alice", WRITE) == ""
    assert does("bobby", READ) == ""
    assert "ACCESS_DENIED" in does("bobby", WRITE)
    assert "LOGON_FAILURE" in does("alice", READ, "wrong")

    shares.set_rules(share, [Rule("user", "bobby", "ro")])
    assert "LOGON_FAILURE" in does("alice", READ)
    assert does("bobby", READ) == ""


def test_rules_are_told_as_they_were_set(shares, share, server, passwords) -> None:
    rules = {Rule("user", "Alice"), Rule("user", "bobby", "ro"), Rule("ip", "10.0.0.0/8")}
    shares.set_rules(share, rules)
    assert shares.servers.speaking(server, "CIFS").shares() == {share: rules}


def test_name_that_nobody_has_is_told_and_changes_nothing(shares, share, does) -> None:
    shares.set_rules(share, [Rule("user", "alice")])
    rules = [Rule("user", "alice"), Rule("user", "nobody-has-it"), Rule("user", "bobby")]
    assert shares.unknown(share, rules) == {"nobody-has-it"}
    with pytest.raises(exceptions.CommandFailed, match="no user or group nobody-has-it"):
        shares.set_rules(share, rules)
    assert does("alice", WRITE) == ""
    assert does("bobby", READ) != ""


def test_group_of_the_directory_is_nobody(shares, share, directory) -> None:
    directory.group("Crew", 4001, 4001)
    assert shares.unknown(share, [Rule("user", "Crew")]) == {"Crew"}


def test_next_login_meets_what_has_changed_in_the_directory(
    shares, share, does, directory, passwords
) -> None:
    carol = directory.user("carol", 3010)
    shares.set_rules(share, [Rule("user", "alice"), Rule("user", "carol")])
    assert does("carol", WRITE, carol) == ""

    changed = directory.password("carol")
    assert "LOGON_FAILURE" in does("carol", READ, carol)
    assert does("carol", WRITE, changed) == ""

    directory.change("carol", "sambaAcctFlags", "[UD         ]")
    assert "ACCOUNT_DISABLED" in does("carol", READ, changed)

    directory.remove("carol")
    assert "LOGON_FAILURE" in does("carol", READ, changed)
    assert "ACCESS_DENIED" in does("carol", READ, directory.user("carol", 3011))
    assert does("alice", WRITE) == ""


@pytest.mark.parametrize("sid", [f"{slapd.SID}-500", "S-1-5-18", "S-1-5-32-544"])
def test_directory_makes_nobody_an_administrator(
    shares, share, server, engine, directory, sid
) -> None:
    password = directory.user("mallory", 3030)
    shares.set_rules(share, [Rule("user", "mallory")])
    directory.change("mallory", "sambaSID", sid)
    key, login = r"HKLM\Software\Samba\smbconf\all", f"mallory%{password}"
    argv = ["net", "rpc", "registry", "createkey", key, "-S", server.spec.address, "-U", login]
    done = engine.exec(server.container_id, [*argv, "--client-protection=encrypt"])
    assert done.exit_code
    assert b"NT_STATUS" in done.stderr
    directory.remove("mallory")


def test_root_of_the_directory_is_not_the_server_s(shares, share, does, directory) -> None:
    password = directory.user("root", 3020)
    assert shares.unknown(share, [Rule("user", "alice")]) == frozenset()
    for share_name in (share, "IPC$"):
        assert "NT_STATUS" in does("root", READ, password, share_name)
    directory.remove("root")


def test_rules_can_be_taken_away_while_the_directory_is_silent(
    shares, share, server, does, directory
) -> None:
    shares.set_rules(share, [Rule("user", "alice"), Rule("user", "bobby")])
    with directory.silent():
        shares.set_rules(share, [Rule("user", "alice")])
        assert shares.unknown(share, [Rule("user", "never-seen")]) == frozenset()
    assert shares.servers.speaking(server, "CIFS").shares() == {share: {Rule("user", "alice")}}
    assert does("alice", WRITE) == ""
    assert "LOGON_FAILURE" in does("bobby", READ)


def test_server_comes_back_after_a_kill_and_as_a_new_container_without_a_password(
    shares, share, server, does, engine, directory
) -> None:
    shares.set_rules(share, [Rule("user", "bobby")])
    engine.kill(server.container_id)
    with directory.silent():
        shares.ensure(share)
    wait_until(lambda: does("bobby", WRITE) == "")
    assert "LOGON_FAILURE" in does("alice", READ)

    engine.remove(server.container_id)
    again = shares.create_server(server.spec)
    shares.ensure(share)
    assert again.container_id != server.container_id
    assert does("bobby", WRITE) == ""
    assert "LOGON_FAILURE" in does("alice", READ)


def wait_until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_secret_is_in_samba_s_secrets_only(engine, server) -> None:
    name = f"cs-share-{server.id}"
    inspected = subprocess.run(
        ["docker", "inspect", name], capture_output=True, text=True, check=True
    )
    logs = subprocess.run(["docker", "logs", name], capture_output=True, text=True, check=True)
    assert PASSWORD not in inspected.stdout + logs.stdout + logs.stderr
    [found] = engine.list({"container_stack.id": server.id})
    places = "/run /tmp /var/lib/samba /proc/[0-9]*/environ /proc/[0-9]*/cmdline"
    script = f"grep -rl Only-4-Test[s] {places}; ls -l /var/lib/samba/private"
    listed = engine.exec(found.id, ["sh", "-c", script]).stdout.decode().splitlines()
    places = [line for line in listed if line.startswith("/")]
    assert places == ["/var/lib/samba/private/secrets.tdb"]
    assert [line[:10] for line in listed if line.endswith("secrets.tdb")][1:] == ["-rw-------"]


def test_nfs_is_refused_in_words(shares, server) -> None:
    with pytest.raises(exceptions.NotSupported, match="NFS is not served with users of"):
        shares.create("share-2", server.id, shares_host.SMALL, "NFS")


WRONG = [
    (security.Login(READER, "wrong"), {}, exceptions.AccessDenied, "refuses the user"),
    (security.Login("nobody", PASSWORD), {}, exceptions.AccessDenied, "refuses the user"),
    (LOGIN, {"domain": "corp.elsewhere"}, exceptions.InvalidRequest, "no entry of Samba's"),
    (LOGIN, {"domain": f"ou=People,{slapd.BASE}"}, exceptions.InvalidRequest, "no entry of Samba"),
    (LOGIN, {"server": "192.0.2.1"}, exceptions.ServiceUnavailable, "doesn't answer"),
    (LOGIN, {"server": "localhost"}, exceptions.ServiceUnavailable, "doesn't answer"),
]


@pytest.mark.parametrize(("login", "more", "error", "says"), WRONG)
def test_what_cannot_be_read_leaves_nothing(
    host, shares, directory, server, login, more, error, says
) -> None:
    before = host.things()
    with pytest.raises(error, match=says) as caught:
        shares.create_server(spec_of(host, directory, 30, **{"dns": ("192.0.2.2",), **more}), login)
    assert PASSWORD not in str(caught.value)
    assert host.things() == before


def test_directory_must_prove_that_it_is_the_one_that_was_named(
    host, server, directory, tmp_path
) -> None:
    slapd.certificates(tmp_path, directory.address)
    before = host.things()
    for trust, error, says in (
        (security.Trust(str(tmp_path / "ca.pem")), exceptions.ServiceUnavailable, "certificate"),
        (security.Trust(str(tmp_path / "none")), exceptions.HostNotReady, "can't be read"),
        (security.Trust(str(tmp_path / "ca.key")), exceptions.HostNotReady, "no certificate"),
        (security.Trust(tls=False), exceptions.NotSupported, "wants TLS"),
    ):
        settings = dataclasses.replace(host.settings, trust=trust)
        asked = assembly.assemble(settings, containers.Engine(), host.new_executor())
        with pytest.raises(error, match=says):
            asked.create_server(spec_of(host, directory, 32), LOGIN)
        assert host.things() == before


@pytest.mark.parametrize("steps", [3, 4])
def test_kill_about_a_join_leaves_nothing(host, shares, directory, caplog, steps) -> None:
    """The third step starts the container, the fourth is the join."""
    before, spec = host.things(), spec_of(host, directory, 40 + steps)
    everything = directory.everything()
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=create_and_die, args=(host.settings, spec, steps))
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL

    assert host.service().recover().finished == (spec.id,)
    assert host.things() == before
    assert directory.everything() == everything
    assert "may be left" not in caplog.text


def create_and_die(settings: assembly.Settings, spec: model.ServerSpec, steps: int) -> None:
    engine = test_shares_crash.MortalEngine(test_shares_crash.Fate(steps))
    run = privilege.make_executor(Path(settings.state_dir))
    assembly.assemble(settings, engine, run).create_server(spec, LOGIN)
