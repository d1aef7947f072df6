# SPDX-License-Identifier: Apache-2.0
"""Two hosts on one engine and one machine: a server that one has lost is left alone by it."""

from collections.abc import Iterator

import pytest

from container_stack import exceptions
from container_stack.host import containers
from container_stack.servers import model

from . import server_host


@pytest.fixture
def other(
    host: server_host.Host, tmp_path_factory: pytest.TempPathFactory, image_id: str
) -> Iterator[server_host.Host]:
    made = server_host.Host(tmp_path_factory.mktemp("other"), image_id, prefix=host.prefix)
    yield made
    left = made.things()
    made.close()
    assert left == server_host.nothing()


@pytest.mark.parametrize("binding", [model.Binding.NOOP, model.Binding.TAP])
def test_server_that_was_evacuated_is_destroyed_where_it_was_and_nowhere_else(
    host: server_host.Host, other: server_host.Host, binding: model.Binding
) -> None:
    plan = host.plan(ports=(server_host.port(binding, prefix=host.prefix),))
    host.service().servers.spawn(plan, host.image_id)
    there = other.service().servers
    there.spawn(plan, host.image_id)
    assert _address(other, there.get(plan.id)) == plan.ports[0].mac

    # It comes back, is told that it has lost the server, and the engine has told it of a start.
    again = host.service().servers
    again.start()
    again.plug_again(plan.id)
    assert _address(other, there.get(plan.id)) == plan.ports[0].mac
    again.destroy(plan.id, ports=plan.ports)

    assert host.engine.list(host.labels()) == []
    assert there.get(plan.id).state is model.State.RUNNING
    assert _address(other, there.get(plan.id)) == plan.ports[0].mac
    assert [each.id for each in there.list()] == [plan.id]
    there.reboot(plan, hard=True)
    assert _address(other, there.get(plan.id)) == plan.ports[0].mac
    there.destroy(plan.id)
    assert host.links() == []


def test_name_that_a_stranger_has_is_not_given_another(
    host: server_host.Host, other: server_host.Host
) -> None:
    plan = other.plan()
    labels = {"container_stack.kind": "server", "container_stack.id": plan.id}
    taken = containers.ContainerSpec(
        name=host.name(plan.id), image=host.image_id, labels={**labels, "container_stack.test": "1"}
    )
    host.engine.create(taken)
    try:
        with pytest.raises(exceptions.AlreadyExists):
            other.service().servers.spawn(plan, host.image_id)
    finally:
        host.engine.remove(taken.name)


def _address(host: server_host.Host, server: model.Server) -> str:
    result = host.engine.exec(server.container_id, ["cat", "/sys/class/net/eth0/address"])
    return result.stdout.decode().strip()
