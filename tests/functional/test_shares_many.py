# SPDX-License-Identifier: Apache-2.0
"""Fifty shares on eight servers, by threads of two processes at once: none fails, none remains."""

import multiprocessing
from concurrent import futures

from container_stack.host import containers
from container_stack.shares import assembly, cifs, model
from container_stack.testing import privilege

from . import shares_host
from .smb_client import Client

host = shares_host.host
samba_image = shares_host.samba_image

SERVERS, SHARES, THREADS = 4, 25, 8
ALICE = cifs.Rule("user", "alice")


def work(host: shares_host.Host, first: int) -> None:
    """Live the lives of half the servers and shares; an exception ends this process badly."""
    run = privilege.make_executor(host.state_dir)
    shares = assembly.assemble(host.settings, containers.Engine(), run)
    shares.start()
    specs = [host.spec(first + number) for number in range(SERVERS)]

    def serve(number: int) -> str:
        share_id = f"share-{first}-{number}"
        spec = specs[number % SERVERS]
        share = shares.create(share_id, spec.id, shares_host.SMALL)
        password = shares.set_rules(share_id, [ALICE])["alice"]
        client = Client(spec.address, share_id, "alice", password)
        client.open("mine").write(share_id.encode())
        assert client.open("mine", write=False).read(64) == share_id.encode()
        client.close()
        return share.id

    with futures.ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(shares.create_server, specs))
        made = list(pool.map(serve, range(SHARES)))
        assert {each.id for each in shares.list()} >= set(made)
        list(pool.map(shares.delete, made))
        list(pool.map(lambda spec: shares.delete_server(spec.id), specs))
    run.close()


def test_fifty_shares_on_eight_servers_by_two_processes_all_work_and_leave_nothing(host):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work, args=(host, first)) for first in (10, 50)]
    for each in workers:
        each.start()
    for each in workers:
        each.join(300)
    assert [each.exitcode for each in workers] == [0, 0]
    assert host.things() == shares_host.nothing()


def test_one_share_wanted_by_many_is_made_once(host):
    shares = host.service()
    shares.recover()
    server = shares.create_server(host.spec())

    def create(_number: int) -> model.Share:
        return shares.create("share-1", server.id, shares_host.SMALL)

    with futures.ThreadPoolExecutor(THREADS) as pool:
        assert len(set(pool.map(create, range(THREADS)))) == 1
    assert host.things()["loop devices"] == 1
