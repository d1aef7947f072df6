# SPDX-License-Identifier: Apache-2.0
"""Users of a tenant's directory, through Manila's REST API and with real SMB clients."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from functional import domain_controller, slapd

from container_stack.host import containers, network
from container_stack.shares import security

from . import cifs, smb

pytestmark = cifs.BY_A_NORMAL_USER


@pytest.fixture(scope="module")
def engine() -> Iterator[containers.Engine]:
    with contextlib.closing(containers.Engine()) as made:
        yield made


@pytest.fixture(scope="module")
def tenants(shares: cifs.Cifs, engine: containers.Engine) -> Iterator[str]:
    """The network of share servers."""
    subnet = shares.subnet
    made = network.NetworkSpec(
        f"0-{subnet}".replace("/", "_"),
        (containers.Subnet(str(subnet), str(subnet[1])),),
        mtu=cifs.MTU,
    )
    engine.create_network(made.name, made.subnets, mtu=made.mtu, bridge=made.bridge)
    yield made.name
    engine.remove_network(made.name)


@pytest.fixture(scope="module")
def controller(
    shares: cifs.Cifs, engine: containers.Engine, tenants: str
) -> Iterator[domain_controller.Controller]:
    """A domain in the network of share servers."""
    with domain_controller.running(engine, tenants, str(shares.subnet[5]), {}) as made:
        yield made


@contextlib.contextmanager
def network_of(shares: cifs.Cifs, **service: str) -> Iterator[str]:
    """Make a share network with this security service."""
    call = shares.client.call
    made = call("POST", "security-services", {"security_service": {"name": "people", **service}})
    made = made["security_service"]
    with shares.network() as found:
        body = {"add_security_service": {"security_service_id": made["id"]}}
        call("POST", f"share-networks/{found}/action", body)
        yield found
    call("DELETE", f"security-services/{made['id']}")


@contextlib.contextmanager
def network_with(
    shares: cifs.Cifs, controller: domain_controller.Controller, **more: str
) -> Iterator[str]:
    """Make a share network with the domain as its security service."""
    service = {
        "type": "active_directory",
        "dns_ip": controller.address,
        "domain": domain_controller.REALM,
        "user": domain_controller.ADMIN,
        "password": domain_controller.PASSWORD,
        **more,
    }
    with network_of(shares, **service) as found:
        yield found


def test_domain_users_and_groups_use_a_share_and_the_account_goes_with_the_server(
    shares: cifs.Cifs, controller: domain_controller.Controller
) -> None:
    passwords = {name: controller.user(name) for name in ("alice", "bobby", "mallory")}
    controller.group("Ships Crew", "bobby")
    people = {name: rf"{domain_controller.SHORT}\{name}" for name in passwords}
    with (
        network_with(shares, controller) as domain_network,
        shares.share(domain_network) as share,
    ):
        account = f"{security.account(share.server)}$"
        assert controller.computers() == [account]
        rules = [
            shares.client.allow(share.id, "alice"),
            shares.client.allow(share.id, "Ships Crew", level="ro"),
            shares.client.allow(share.id, "nobody has it"),
        ]
        assert [each.state for each in rules] == ["active", "active", "error"]

        with smb.Client(share.location, people["alice"], passwords["alice"]) as client:
            client.write("log", b"calm sea")
        with smb.Client(share.location, people["bobby"], passwords["bobby"]) as client:
            assert client.read("log") == b"calm sea"
            assert smb.refused(lambda: client.write("log", b"storm"))
        name, password = people["mallory"], passwords["mallory"]
        assert smb.refused(lambda: smb.enter_as(share.location, name, password))

        server = shares.client.server(share.server)
        assert server is not None
        ours = {k: v for k, v in server.details.items() if not k.startswith("security_ser")}
        assert domain_controller.PASSWORD not in json.dumps(ours)
        log = shares.backend.service.log.read_text()
        assert domain_controller.PASSWORD not in log
    assert controller.computers() == []


def test_a_wrong_password_ends_in_error_and_leaves_nothing(
    shares: cifs.Cifs, controller: domain_controller.Controller
) -> None:
    with network_with(shares, controller, password="not-it") as domain_network:
        share = shares.ask(domain_network)

        assert shares.client.settled(share).status == "error"
        assert "refuses the user or the password" in shares.backend.service.log.read_text()
        shares.client.delete_share(share)
    assert controller.computers() == []


def test_users_of_an_ldap_directory_use_a_share(
    shares: cifs.Cifs, engine: containers.Engine, tenants: str, tmp_path: Path
) -> None:
    address = str(shares.subnet[6])
    with slapd.running(engine, tenants, address, {}, tmp_path) as directory:
        trusted = shares.backend.place.directory / cifs.CA_FILE
        shutil.copyfile(directory.ca, trusted)
        trusted.chmod(0o644)
        passwords = {
            name: directory.user(name, 3000 + n) for n, name in enumerate(("anna", "bert"))
        }
        service = {
            "type": "ldap",
            "server": address,
            "domain": slapd.DOMAIN,
            "user": slapd.READER,
            "password": slapd.PASSWORD,
        }
        with network_of(shares, **service) as found, shares.share(found) as share:
            rules = [shares.client.allow(share.id, name) for name in ("anna", "nobody-has-it")]
            assert [each.state for each in rules] == ["active", "error"]

            with smb.Client(share.location, "anna", passwords["anna"]) as client:
                client.write("log", b"calm sea")
            assert smb.refused(lambda: smb.enter_as(share.location, "bert", passwords["bert"]))
            assert slapd.PASSWORD not in shares.backend.service.log.read_text()
