# SPDX-License-Identifier: Apache-2.0
"""How shares come back when Manila starts."""

import threading

from manila.common import constants

from container_stack import exceptions
from container_stack.drivers.manila import answers, ensuring
from container_stack.shares import model

SUBNET = model.Subnet("net", "192.0.2.0/24")


class Host:
    """Share servers and the shares that they had; which servers still run."""

    def __init__(self, **servers):
        self.servers = self
        self._shares = servers
        self.up = set()
        self.made = []
        self.lock = threading.Lock()

    def running(self, server_id):
        if server_id not in self.up:
            raise exceptions.NotFound(f"There is no share server {server_id}.")

    def create_server(self, spec, login=None):
        with self.lock:
            self.made.append(spec.id)
            self.up.add(spec.id)

    def ensure(self, share_id):
        for server_id, names in self._shares.items():
            if share_id in names:
                self.running(server_id)
                locations = (rf"\\192.0.2.9\{share_id}",)
                return model.Share(share_id, server_id, 1 << 30, locations, "CIFS")
        raise exceptions.NotFound(f"There is no share {share_id}.")


class Driver(ensuring.Ensuring):
    """The driver as far as it brings back shares."""

    _site = None

    def __init__(self, host):
        self._shares = host

    def _limit(self, share):
        """Nothing: no share type says anything."""


def share(name, server_id):
    spec = model.ServerSpec(server_id, SUBNET, "192.0.2.9")
    details = answers.server_details(model.Server(spec, "active", "0123"))
    return {"id": name, "share_server": {"id": server_id, "backend_details": details}}


def test_every_share_of_a_server_that_is_made_again_gets_its_rules_back():
    host = Host(lost=["one", "two"], kept=["three"])
    host.up = {"kept"}
    shares = [share("one", "lost"), share("three", "kept"), share("two", "lost")]
    told = Driver(host).ensure_shares(None, shares)
    assert host.made == ["lost"]
    assert {name: each["reapply_access_rules"] for name, each in told.items()} == {
        "one": True,
        "two": True,
        "three": False,
    }
    assert told["two"]["export_locations"][0]["path"] == r"\\192.0.2.9\two"


def test_share_that_is_gone_is_an_error_and_the_others_come_back():
    host = Host(kept=["one"])
    host.up = {"kept"}
    told = Driver(host).ensure_shares(None, [share("one", "kept"), share("gone", "kept")])
    assert told["one"]["status"] == constants.STATUS_AVAILABLE
    assert told["gone"] == {"status": constants.STATUS_ERROR}


def test_shares_of_a_server_that_can_t_be_made_again_are_errors():
    class Full(Host):
        def create_server(self, spec, login=None):
            raise exceptions.Busy("The address is taken.")

    host = Full(lost=["one"], kept=["two"])
    host.up = {"kept"}
    told = Driver(host).ensure_shares(None, [share("one", "lost"), share("two", "kept")])
    assert told["one"] == {"status": constants.STATUS_ERROR}
    assert told["two"]["status"] == constants.STATUS_AVAILABLE
