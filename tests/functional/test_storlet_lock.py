# SPDX-License-Identifier: Apache-2.0
"""One manager at a time changes an account: locks in files, and in a real etcd."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from container_stack import exceptions
from container_stack.drivers import storlet_lock
from container_stack.storlets import model, settings
from container_stack.storlets.deployment import deployer, leases
from container_stack.storlets.verification import report
from container_stack.testing import nodes, objects, tiny_images

from . import etcd

#: Seconds after which etcd gives up a lock that nobody renews.
LASTS = 2

HOLD = """
import sys, time
from container_stack.drivers import storlet_lock
with storlet_lock.Locks(sys.argv[1]).hold(sys.argv[2]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with etcd.running(tmp_path_factory.mktemp("etcd")) as running:
        yield running


@pytest.fixture(params=["file", "etcd"])
def url(request, tmp_path):
    if request.param == "file":
        return f"file://{tmp_path}/locks"
    return request.getfixturevalue("server").url(LASTS)


@pytest.fixture
def scope(request):
    return f"cstest{abs(hash(request.node.name)) % 10**6}"


@contextlib.contextmanager
def holder(url, scope):
    """Run another process that holds a lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, url, scope], stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"held\n"
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.wait()
        process.stdout.close()


def test_one_at_a_time_and_then_the_next(url, scope):
    locks = storlet_lock.Locks(url)
    for _turn in range(2):
        with locks.hold(scope) as lease:
            lease.check()
            with pytest.raises(exceptions.Busy), storlet_lock.Locks(url).hold(scope):
                pass
            with locks.hold(scope + "other") as other:
                other.check()
            lease.check()


def test_error_inside_frees_it(url, scope):
    locks = storlet_lock.Locks(url)
    with pytest.raises(KeyError), locks.hold(scope):
        raise KeyError
    with locks.hold(scope):
        pass


def test_another_process_keeps_us_out_until_it_is_killed(url, scope):
    locks = storlet_lock.Locks(url)
    with holder(url, scope) as process:
        with pytest.raises(exceptions.Busy), locks.hold(scope):
            pass
        process.kill()
        process.wait()
        taken = time.monotonic()
        while True:
            with contextlib.suppress(exceptions.Busy), locks.hold(scope):
                break
            assert time.monotonic() < taken + 4 * LASTS
            time.sleep(0.1)


def test_lock_is_kept_for_longer_than_it_lasts_without_renewal(server, scope):
    with holder(server.url(LASTS), scope):
        time.sleep(2 * LASTS)
        with pytest.raises(exceptions.Busy), storlet_lock.Locks(server.url(LASTS)).hold(scope):
            pass


def test_manager_that_slept_too_long_has_lost_its_lock(server, scope, monkeypatch):
    """Its clock says so, even before it has asked etcd, which would renew nothing and not tell."""
    with storlet_lock.Locks(server.url(LASTS)).hold(scope) as lease:
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        monkeypatch.setattr(storlet_lock, "_now", lambda: now + 2 * LASTS)
        with pytest.raises(leases.LeaseLost):
            lease.check()
        monkeypatch.undo()
        time.sleep(LASTS)
        with pytest.raises(leases.LeaseLost):
            lease.check()


def test_lock_is_lost_when_etcd_is_away_for_too_long(server, scope):
    url = server.url(LASTS)
    began = time.monotonic()
    with storlet_lock.Locks(url).hold(scope) as lease:
        server.freeze()
        try:
            lease.check()
            time.sleep(LASTS + 1)
            with pytest.raises(leases.LeaseLost):
                lease.check()
        finally:
            server.thaw()
    assert time.monotonic() < began + 20
    with storlet_lock.Locks(url).hold(scope + "again") as lease:
        lease.check()


def test_short_absence_of_etcd_does_no_harm(server, scope):
    with storlet_lock.Locks(server.url(6)).hold(scope) as lease:
        server.freeze()
        time.sleep(2)
        server.thaw()
        time.sleep(5)
        lease.check()


def test_frozen_manager_notices_that_another_one_has_its_lock(server, scope):
    url = server.url(LASTS)
    with holder(url, scope) as process:
        os.kill(process.pid, signal.SIGSTOP)
        end = time.monotonic() + 4 * LASTS
        while True:
            with contextlib.suppress(exceptions.Busy), storlet_lock.Locks(url).hold(scope):
                break
            assert time.monotonic() < end
            time.sleep(0.2)


def test_deployment_stops_before_its_next_step_when_etcd_is_away(server):
    """And another manager finishes it when etcd is back."""
    account = model.Account("AUTH_305f5f3d12834be187238e080b8643e4")
    image = tiny_images.make([b"base", b"common"])
    finding = report.Finding(1, "digests", report.State.PASSED)
    verified = report.Report(account.name, image.image_id, 1, 1.0, 1.0, [finding])
    steps = []

    def step(node, what):
        steps.append((node, what))
        if (node, what) == ("node2", "switch:beside"):
            server.freeze()
            time.sleep(LASTS + 0.5)

    members = [nodes.SimulatedNode(f"node{n}", step=step) for n in range(1, 5)]
    store = objects.MemoryObjects("AUTH_stlops")

    def manager():
        locks = storlet_lock.Locks(server.url(LASTS))
        policy = settings.Rollout(wave=1)
        return deployer.Deployer(store, members, locks.hold, who="ann", policy=policy)

    with pytest.raises(leases.LeaseLost):
        manager().deploy(account, image, verified)
    stopped = steps.index(("node2", "switch:beside"))
    after = [what for what in steps[stopped:] if what[1] in ("switch", "clear", "forget")]
    assert after == []
    server.thaw()
    assert manager().resume(account).changed
    assert {node.request(account) for node in members} == {image.image_id}
    assert manager().status(account).right


@pytest.mark.parametrize(
    "bad", ["nothing://x", "etcd3+http://127.0.0.1:1?timeout=1", "file:///proc/none/x", "ipc://"]
)
def test_back_end_that_is_not_there_is_told(bad):
    with (
        pytest.raises((exceptions.HostNotReady, exceptions.ServiceUnavailable)),
        storlet_lock.Locks(bad).hold("x"),
    ):
        pass
