# SPDX-License-Identifier: Apache-2.0
"""Share servers of which Manila may never have heard, since it was killed as they were ready."""

from container_stack.drivers.manila import newcomers

from . import shares_host

host = shares_host.host
samba_image = shares_host.samba_image


def test_at_the_next_start_those_go_that_nobody_uses(host: shares_host.Host) -> None:
    shares = host.started()
    unknown, known, used = (host.spec(number) for number in (10, 11, 12))
    listed = newcomers.Newcomers(shares, host.settings)
    for spec in (unknown, known, used):
        listed.add(spec.id)
        shares.create_server(spec)
    listed.add("never-made")
    listed.known(known.id)
    shares.create("share-1", used.id, shares_host.SMALL)

    again = host.started()
    newcomers.Newcomers(again, host.settings).remove()
    assert [server.id for server in again.servers.list()] == [known.id, used.id]

    again.delete("share-1")
    newcomers.Newcomers(again, host.settings).remove()
    assert len(again.servers.list()) == 2
    for spec in (known, used):
        again.delete_server(spec.id)
    assert host.things() == shares_host.nothing()
