# SPDX-License-Identifier: Apache-2.0
"""A step of a server's life fails, or is the last of its process, or of the engine."""

import contextlib
import itertools
import multiprocessing
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.host import containers, images
from container_stack.servers import assembly, model, service

from .. import dockerd
from . import mortal, server_host

#: Lives at once.
WORKERS = 4

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="interfaces need root")


@pytest.fixture(scope="module")
def spawner() -> multiprocessing.context.ForkServerContext:
    """Starts processes that have imported all that they need, and have no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([assembly.__name__])
    return context


@contextlib.contextmanager
def own_host(directory: Path, image_id: str) -> Iterator[server_host.Host]:
    directory.mkdir()
    made = server_host.Host(directory, image_id, prefix=uuid.uuid4().hex[:4])
    with contextlib.closing(made):
        yield made


# Killed


@pytest.mark.parametrize(
    ("phase", "steps"), [("boot", 8), ("power", 7), ("ports", 4), ("destroy", 4)]
)
def test_whenever_it_is_killed_the_next_start_leaves_a_whole_server_or_none(
    image_id: str,
    tmp_path: Path,
    spawner: multiprocessing.context.ForkServerContext,
    phase: str,
    steps: int,
) -> None:
    with own_host(tmp_path / "host", image_id) as host:
        plan, second = host.plan(files={"a/b": b"c"}), mortal.second_port(host)
        stack = host.service(run=root(host))
        for last in itertools.count(1):
            prepare(stack.servers, plan, image_id, phase)
            arguments = (phase, host.settings, image_id, plan, second, last)
            child = spawner.Process(target=mortal.act, args=arguments)
            child.start()
            child.join(300)
            assert child.exitcode in (0, -signal.SIGKILL)
            if child.exitcode == 0:
                break
            said = host.service(run=root(host)).start()
            assert not any("Could not" in words for words in said), said
            check_whole(host, stack.servers, plan, phase)
            if phase == "ports":
                stack.servers.detach_port(plan.id, second.id)
        assert last > steps, "it has more steps than this; were they counted?"
        stack.servers.destroy(plan.id)
        assert host.things() == server_host.nothing()


def prepare(servers: service.Servers, plan: model.Plan, image_id: str, phase: str) -> None:
    if phase == "boot":
        servers.destroy(plan.id)
        return
    with contextlib.suppress(exceptions.AlreadyExists):
        servers.spawn(plan, image_id)
    servers.power_on(plan)


def check_whole(
    host: server_host.Host, servers: service.Servers, plan: model.Plan, phase: str
) -> None:
    """The server stands with its ports, or nothing of it is left."""
    listed = list(servers.list())
    assert [each.id for each in listed] in ([], [plan.id])
    if phase != "boot":
        assert len(listed) == (phase != "destroy")
    for each in listed:
        assert each.state is not model.State.PAUSED
        runs = each.state is model.State.RUNNING
        assert host.has_links(*((1, 2) if phase == "ports" else (int(runs),)))
        assert runs or phase == "power"
    things = host.things()
    assert (things["containers"], things["records"]) == (len(listed), len(listed))
    assert (things["locks"], things["interfaces"] <= len(listed)) == (0, True)
    assert listed or things == server_host.nothing()


def root(host: server_host.Host) -> mortal.RootExecutor:
    return mortal.RootExecutor(state_dir=str(host.state_dir))


# Failed


def test_whatever_step_of_a_boot_fails_nothing_remains(image_id: str, tmp_path: Path) -> None:
    def boot(host: server_host.Host, last: int) -> tuple[int, BaseException | None]:
        fate = mortal.Fate(last, mortal.fail)
        servers = mortal.service(host.settings, fate).servers
        plan = host.plan(files={"a/b": b"c"})
        try:
            servers.spawn(plan, image_id, plugging=mortal.waiting(fate))
        except exceptions.CommandFailed as exc:
            return fate.steps, exc
        steps = fate.steps
        servers.destroy(plan.id)
        return steps, None

    def try_step(last: int) -> None:
        with own_host(tmp_path / str(last), image_id) as host:
            _, failure = boot(host, last)
            assert failure is not None, last
            assert host.things() == server_host.nothing(), f"step {last} failed"

    with own_host(tmp_path / "0", image_id) as host:
        steps, _ = boot(host, 0)
    with futures.ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(try_step, range(1, steps + 1)))


@pytest.mark.parametrize("action", ["power_on", "power_off", "attach", "destroy"])
def test_whatever_step_fails_the_action_can_be_repeated(
    image_id: str, tmp_path: Path, action: str
) -> None:
    with own_host(tmp_path / "host", image_id) as host:
        plan, second = host.plan(), mortal.second_port(host)
        calm = mortal.service(host.settings, mortal.Fate(0, mortal.fail)).servers

        def act(fate: mortal.Fate) -> None:
            servers = mortal.service(host.settings, fate).servers
            actions = {
                "power_on": lambda: servers.power_on(plan, plugging=mortal.waiting(fate)),
                "power_off": lambda: servers.power_off(plan.id),
                "attach": lambda: servers.attach_port(plan.id, second),
                "destroy": lambda: servers.destroy(plan.id),
            }
            actions[action]()

        def ready() -> None:
            prepare(calm, plan, image_id, action)
            calm.detach_port(plan.id, second.id)
            if action == "power_on":
                calm.power_off(plan.id)

        ready()
        act(whole := mortal.Fate(0, mortal.fail))
        for last in range(1, whole.steps + 1):
            ready()
            with contextlib.suppress(exceptions.CommandFailed):
                act(mortal.Fate(last, mortal.fail))
            check_settled(host, calm.list(), action)
            act(mortal.Fate(0, mortal.fail))
            check_done(host, calm.list(), action)
        calm.destroy(plan.id)
        assert host.things() == server_host.nothing()


def check_settled(host: server_host.Host, servers: "list[model.Server]", action: str) -> None:
    """After a failure a server runs with its ports, or doesn't run and has none."""
    for server in servers:
        assert server.state is not model.State.PAUSED
        if server.state is model.State.STOPPED:
            assert host.has_links(0)
        elif action == "attach":
            assert host.has_links(1)


def check_done(host: server_host.Host, servers: "list[model.Server]", action: str) -> None:
    expected = {"attach": 2, "power_off": 0, "destroy": 0}.get(action, 1)
    assert host.has_links(expected)
    states = [] if action == "destroy" else [model.State.STOPPED]
    assert [each.state for each in servers] == (states if not expected else [model.State.RUNNING])


# The engine


def test_engine_that_dies_under_servers_is_told_truthfully(
    image_id: str,
    tmp_path: Path,
    engine: containers.Engine,
    make_dockerd: Callable[[], dockerd.Dockerd],
) -> None:
    own = make_dockerd()
    own_engine = containers.Engine(own.url)
    images.Images(own_engine).load(images.Images(engine).save([image_id]))
    host = server_host.Host(tmp_path, image_id, own.url)
    servers = host.service().servers
    running, booting = host.plan(ports=()), host.plan(ports=(server_host.port(),))
    servers.spawn(running, image_id)

    @contextlib.contextmanager
    def dying() -> Iterator[None]:
        own.kill()
        yield

    with pytest.raises(exceptions.EngineUnavailable):
        servers.spawn(booting, image_id, plugging=dying())
    with pytest.raises(exceptions.EngineUnavailable):
        servers.list()
    own.start()
    again = host.service().servers
    assert [words for words in again.start() if booting.id in words]
    assert [(each.id, each.state) for each in again.list()] == [(running.id, model.State.STOPPED)]
    again.power_on(running)
    assert again.get(running.id).state is model.State.RUNNING
    assert b"ready" in again.console(running.id)
    again.destroy(running.id)
    host.close()
    assert host.things() == server_host.nothing()
