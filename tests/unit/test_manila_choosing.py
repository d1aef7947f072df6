# SPDX-License-Identifier: Apache-2.0
"""Which of the share servers that exist gets a share, as Manila asks."""

import pytest
from manila import exception
from manila.share import driver

from container_stack import exceptions
from container_stack.drivers.manila import choosing


class Servers:
    """Share servers on a host: each with what it speaks."""

    def __init__(self, **speaking):
        self._speaking = speaking

    def get(self, server_id):
        if server_id not in self._speaking:
            raise exceptions.NotFound(f"There is no share server {server_id}.")
        return server_id

    def speaking(self, server, name):
        if self._speaking[server] is None:
            raise exceptions.EngineUnavailable("No engine.")
        if name not in self._speaking[server]:
            raise exceptions.NotSupported(f"Share server {server} doesn't speak {name}.")


class Driver(choosing.Choosing, driver.ShareDriver):
    """The driver as far as servers are chosen; the rest of the question is Manila's own."""

    def __init__(self, **speaking):
        self._shares = self
        self.servers = Servers(**speaking)

    def choose(self, protocol, *servers, **given):
        share = {"id": "share-1", "share_proto": protocol}
        chosen = self.choose_share_server_compatible_with_share(None, servers, share, **given)
        return chosen and chosen["id"]


def server(manila_id, own_id=None):
    return {"id": manila_id, "backend_details": {"id": own_id or manila_id}}


OLD, NEW = server("old"), server("new")


def test_share_goes_to_the_first_server_that_speaks_its_protocol():
    made = Driver(old=["CIFS"], new=["CIFS", "NFS"])
    assert made.choose("CIFS", OLD, NEW) == "old"
    assert made.choose("NFS", OLD, NEW) == "new"
    assert made.choose("nfs", OLD, NEW) == "new"


def test_manila_makes_a_server_where_none_speaks_the_protocol():
    made = Driver(old=["CIFS"])
    assert made.choose("NFS", OLD) is None
    assert made.choose("CIFS") is None


def test_server_that_is_made_again_speaks_what_new_ones_do():
    assert Driver().choose("NFS", OLD) == "old"
    assert Driver().choose("NFS", {"id": "half-made", "backend_details": None}) == "half-made"


def test_managed_server_is_asked_by_its_first_name():
    managed = server("of-manila", "old")
    made = Driver(old=["CIFS"])
    assert made.choose("CIFS", managed) == "of-manila"
    assert made.choose("NFS", managed) is None


def test_share_of_a_group_goes_to_the_group_s_server_or_nowhere():
    made = Driver(old=["CIFS"], new=["CIFS", "NFS"])
    assert made.choose("CIFS", OLD, NEW, share_group={"share_server_id": "new"}) == "new"
    assert made.choose("NFS", OLD, NEW, share_group={"share_server_id": "old"}) is None


def test_engine_that_does_not_answer_is_no_reason_for_another_server():
    with pytest.raises(exception.ShareBackendException):
        Driver(old=None).choose("NFS", OLD, NEW)
