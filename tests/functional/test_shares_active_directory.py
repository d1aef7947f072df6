# SPDX-License-Identifier: Apache-2.0
"""Share servers as members of a real Active Directory domain."""

import contextlib
import dataclasses
import logging
import multiprocessing
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.host import containers, network
from container_stack.shares import active_directory, assembly, model, security, service
from container_stack.testing import privilege

from . import domain_controller, shares_host, test_shares_crash
from .domain_controller import ADMIN, PASSWORD, REALM, SHORT, Controller
from .smb_client import Client, smbclient

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")

samba_image = shares_host.samba_image
host = shares_host.lasting_host
shares = shares_host.lasting_shares

LOGIN = security.Login(ADMIN, PASSWORD)
Rule = active_directory.Rule


@pytest.fixture(scope="module")
def controller(
    engine: containers.Engine, host: shares_host.Host, test_labels: Mapping[str, str]
) -> Iterator[Controller]:
    """A domain on the network of share servers, with people in it."""
    subnet = host.spec().subnet
    made = network.NetworkSpec(subnet.id, (containers.Subnet(subnet.cidr, subnet.gateway),))
    with contextlib.ExitStack() as undo:
        engine.create_network(made.name, made.subnets, bridge=made.bridge, labels=test_labels)
        undo.callback(engine.remove_network, made.name)
        undo.callback(remove_servers, engine, host.owner)
        address = f"{host.net}.5"
        yield undo.enter_context(domain_controller.running(engine, made.name, address, test_labels))


def remove_servers(engine: containers.Engine, owner: str) -> None:
    for each in engine.list({"container_stack.owner": owner}):
        engine.remove(each.id)


@pytest.fixture(scope="module")
def people(controller: Controller) -> Mapping[str, str]:
    """The passwords of users of the domain; Bob is one of the Ship's Crew."""
    passwords = {name: controller.user(name) for name in ("alice", "bobby", "mallory")}
    controller.group("Ship's Crew", "bobby")
    return passwords


def spec_of(host: shares_host.Host, controller: Controller, number: int, **more):
    wanted = security.SecurityService("active_directory", REALM, (controller.address,), **more)
    return dataclasses.replace(host.spec(number), users=wanted)


@pytest.fixture(scope="module")
def server(
    host: shares_host.Host, shares: service.ShareService, controller: Controller
) -> model.Server:
    return shares.create_server(spec_of(host, controller, 20), LOGIN)


@pytest.fixture
def share(shares: service.ShareService, server: model.Server) -> Iterator[str]:
    shares.create("share-1", server.id, shares_host.SMALL)
    yield "share-1"
    shares.delete("share-1")


class Person:
    """Somebody at a computer."""

    def __init__(self, server: model.Server, name: str, password: str, at: Path) -> None:
        self._server, self._name, self._password, self._at = server, name, password, at

    def does(self, commands: str, share: str = "share-1") -> str:
        """Run commands on a share, and return what was said of it; "" is success."""
        name, address = rf"{SHORT}\{self._name}", self._server.spec.address
        done = smbclient(address, share, name, self._password, commands, cwd=self._at)
        return done.stdout + done.stderr if done.returncode or "NT_STATUS" in done.stdout else ""


@pytest.fixture
def person(server: model.Server, people: Mapping[str, str], tmp_path: Path):
    (tmp_path / "paper").write_text("calm sea")
    return lambda name: Person(server, name, people[name], tmp_path)


WRITE, READ = "put paper; del paper", "ls"


def test_users_of_the_domain_do_what_rules_say_and_others_nothing(
    shares: service.ShareService, share: str, person
) -> None:
    assert "ACCESS_DENIED" in person("alice").does(READ) or "BAD_NETWORK" in person("alice").does(
        READ
    )

    answer = shares.set_rules(share, [Rule("user", "alice"), Rule("user", "Ship's Crew", "ro")])

    assert answer == {}
    assert person("alice").does(WRITE) == ""
    assert person("bobby").does(READ) == ""
    assert "ACCESS_DENIED" in person("bobby").does(WRITE)
    assert "ACCESS_DENIED" in person("mallory").does(READ)


def test_administrators_of_the_domain_change_none_of_the_server_s_settings(
    shares, share, server, engine, controller
) -> None:
    """Who writes Samba's registry says what is run as root."""
    key, login = r"HKLM\Software\Samba\smbconf\all", rf"{SHORT}\{ADMIN}%{PASSWORD}"
    argv = ["net", "rpc", "registry", "createkey", key, "-S", server.spec.address, "-U", login]
    done = engine.exec(server.container_id, [*argv, "--client-protection=encrypt"])
    assert done.exit_code
    assert b"NT_STATUS" in done.stderr
    listed = engine.exec(server.container_id, ["net", "conf", "listshares"])
    assert b"all" not in listed.stdout.split()


def test_wrong_password_is_refused(shares, share, server, tmp_path) -> None:
    shares.set_rules(share, [Rule("user", "alice")])
    assert "LOGON_FAILURE" in Person(server, "alice", "wrong", tmp_path).does(READ)


def test_rules_are_told_by_their_names(shares, share, server, people) -> None:
    rules = {
        Rule("user", "alice"),
        Rule("user", "Ship's Crew", "ro"),
        Rule("ip", "10.0.0.0/8"),
    }
    shares.set_rules(share, rules)
    assert shares.servers.speaking(server, "CIFS").shares() == {share: rules}


def test_everybody_of_the_domain_is_a_group_too(shares, share, person) -> None:
    shares.set_rules(share, [Rule("user", "Domain Users")])
    assert [person(name).does(WRITE) for name in ("alice", "mallory")] == ["", ""]


def test_name_that_means_nobody_is_told_and_changes_nothing(shares, share, person) -> None:
    shares.set_rules(share, [Rule("user", "alice")])
    rules = [Rule("user", "alice"), Rule("user", "nobody-has-it"), Rule("user", "Ship's Crew")]
    assert shares.unknown(share, rules) == {"nobody-has-it"}
    with pytest.raises(exceptions.CommandFailed, match="no user or group nobody-has-it"):
        shares.set_rules(share, rules)
    assert person("alice").does(WRITE) == ""
    assert person("bobby").does(READ) != ""


def test_who_loses_his_rule_is_cut_off_and_others_work_on(
    shares, share, server, person, people
) -> None:
    shares.set_rules(share, [Rule("user", "alice"), Rule("user", "Ship's Crew")])
    with (
        open_file(server, "alice", people, "a") as alice,
        open_file(server, "bobby", people, "b") as bob,
    ):
        shares.set_rules(share, [Rule("user", "alice")])
        with pytest.raises(Exception, match=r"(?i)denied|closed|deleted|disconnect|expired"):
            bob.write(b"storm")
        alice.write(b"calm")
    assert "ACCESS_DENIED" in person("bobby").does(READ)


def test_rules_can_be_taken_away_while_no_controller_answers(
    shares, share, server, person, controller
) -> None:
    shares.set_rules(share, [Rule("user", "alice"), Rule("user", "Ship's Crew")])
    with controller.silent():
        shares.set_rules(share, [Rule("user", "alice")])
        with pytest.raises(exceptions.CommandFailed, match="directory doesn't answer"):
            shares.set_rules(share, [Rule("user", "alice"), Rule("user", "never-seen")])
    assert shares.servers.speaking(server, "CIFS").shares() == {share: {Rule("user", "alice")}}
    assert person("alice").does(WRITE) == ""
    assert "ACCESS_DENIED" in person("bobby").does(READ)
    assert "ACCESS_DENIED" in person("mallory").does(READ)


def test_member_comes_back_after_a_kill_and_as_a_new_container_without_a_password(
    host, shares, share, server, person
) -> None:
    shares.set_rules(share, [Rule("user", "Ship's Crew")])
    engine = containers.Engine()
    engine.kill(server.container_id)
    shares.ensure(share)
    assert person("bobby").does(WRITE) == ""
    assert "ACCESS_DENIED" in person("alice").does(READ)

    engine.remove(server.container_id)
    again = shares.create_server(server.spec)
    shares.ensure(share)
    assert again.container_id != server.container_id
    assert person("bobby").does(WRITE) == ""
    assert "ACCESS_DENIED" in person("alice").does(READ)


def test_no_secret_is_where_it_could_be_read(engine, server) -> None:
    inspected = subprocess.run(
        ["docker", "inspect", f"cs-share-{server.id}"], capture_output=True, text=True, check=True
    )
    assert PASSWORD not in inspected.stdout
    [found] = engine.list({"container_stack.id": server.id})
    places = "/run /var/lib/samba /proc/[0-9]*/environ"
    script = f"grep -rl {PASSWORD} {places}; ls -l /var/lib/samba/private"
    listed = engine.exec(found.id, ["sh", "-c", script]).stdout.decode().splitlines()
    assert not [line for line in listed if line.startswith("/")]
    assert [line[:10] for line in listed if line.endswith("secrets.tdb")] == ["-rw-------"]


def test_nfs_is_refused_in_words(shares, server) -> None:
    with pytest.raises(exceptions.NotSupported, match="NFS is not served with users of"):
        shares.create("share-2", server.id, shares_host.SMALL, "NFS")
    assert [each.id for each in shares.list()] == []


WRONG = [
    (security.Login(ADMIN, "wrong"), {}, exceptions.AccessDenied, "refuses the user"),
    (LOGIN, {"unit": "No/Such"}, exceptions.InvalidRequest, "no such organizational unit"),
    (LOGIN, {"site": "Nowhere"}, exceptions.ServiceUnavailable, "Nowhere"),
    (LOGIN, {"server": "192.0.2.1"}, exceptions.ServiceUnavailable, "doesn't answer"),
]


@pytest.mark.parametrize(("login", "more", "error", "says"), WRONG)
def test_failed_join_leaves_nothing(
    host, shares, controller, server, login, more, error, says
) -> None:
    before, computers = host.things(), controller.computers()
    with pytest.raises(error, match=says) as caught:
        shares.create_server(spec_of(host, controller, 30, **more), login)
    assert PASSWORD not in str(caught.value)
    assert host.things() == before
    assert controller.computers() == computers


def test_account_is_made_where_the_service_says_and_removed_with_the_server(
    host, shares, controller, server, caplog
) -> None:
    controller.tool("ou", "add", "OU=Storage")
    controller.tool("ou", "add", "OU=Files,OU=Storage")
    before, computers = host.things(), controller.computers()
    more = {"unit": "Storage/Files", "site": "Default-First-Site-Name"}
    spec = spec_of(host, controller, 31, **more)
    made = shares.create_server(spec, LOGIN)
    account = security.account(made.id)
    assert f"{account}$" in controller.computers()
    assert f"CN={account},OU=Files,OU=Storage" in controller.tool("computer", "show", f"{account}$")

    shares.delete_server(made.id, LOGIN)
    assert controller.computers() == computers
    assert host.things() == before

    shares.create_server(spec, LOGIN)
    with caplog.at_level(logging.WARNING):
        shares.delete_server(made.id, security.Login(ADMIN, "wrong"))
    assert account in caplog.text
    assert "wrong" not in caplog.text.replace("password", "")
    assert host.things() == before
    controller.tool("computer", "delete", f"{account}$")


@contextlib.contextmanager
def open_file(server: model.Server, name: str, people: Mapping[str, str], path: str):
    client = Client(server.spec.address, "share-1", rf"{SHORT}\{name}", people[name])
    yield client.open(path)
    with contextlib.suppress(Exception):
        client.close()


@pytest.mark.parametrize("steps", [3, 4])
def test_kill_about_a_join_leaves_nothing_but_an_account_that_the_log_names(
    host, controller, server, caplog, steps
) -> None:
    """The third step starts the container, the fourth is the join."""
    before, spec = host.things(), spec_of(host, controller, 40 + steps)
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=create_and_die, args=(host.settings, spec, steps))
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL
    account = f"{security.account(spec.id)}$"
    assert (account in controller.computers()) == (steps > 3)

    with caplog.at_level(logging.WARNING):
        assert host.service().recover().finished == (spec.id,)
    assert host.things() == before
    assert account.removesuffix("$") in caplog.text


def create_and_die(settings: assembly.Settings, spec: model.ServerSpec, steps: int) -> None:
    engine = test_shares_crash.MortalEngine(test_shares_crash.Fate(steps))
    run = privilege.make_executor(Path(settings.state_dir))
    assembly.assemble(settings, engine, run).create_server(spec, LOGIN)
