# SPDX-License-Identifier: Apache-2.0
"""Servers on the engine of this machine, with real interfaces."""

import contextlib
import dataclasses
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent import futures

import pytest

from container_stack import exceptions
from container_stack.host import containers
from container_stack.servers import assembly, model, spec

from .. import service_account
from ..test_containers import counted_calls
from . import server_host

Host, Service = server_host.Host, assembly.Service


@contextlib.contextmanager
def server(host: Host, service: Service, **values: object) -> Iterator[model.Plan]:
    """A server that runs, in the body."""
    plan = host.plan(**values)  # type: ignore[arg-type]
    service.servers.spawn(plan, host.image_id)
    try:
        yield plan
    finally:
        service.servers.destroy(plan.id)


def inside(host: Host, plan: model.Plan, script: str) -> str:
    result = host.engine.exec(host.name(plan.id), ["sh", "-c", script], user="0")
    return result.stdout.decode()


def console(service: Service, plan: model.Plan, wanted: bytes) -> bytes:
    """Wait until a server has written something, and return all that it wrote."""
    deadline = time.monotonic() + 60
    while wanted not in (said := service.servers.console(plan.id)):
        assert time.monotonic() < deadline, said
        time.sleep(0.05)
    return said


# A server's life


def test_server_lives_from_spawn_to_destroy(host: Host, service: Service) -> None:
    servers, plan = service.servers, host.plan()
    servers.spawn(plan, host.image_id)
    running = servers.get(plan.id)
    assert (running.name, running.state) == (plan.name, model.State.RUNNING)
    assert (running.image_id, running.exit_code) == (host.image_id, None)
    listed = dataclasses.replace(running, started_at=None)
    assert servers.list() == [listed]
    assert "10.251.0.5/24" in inside(host, plan, "ip address show dev eth0")
    console(service, plan, b"ready")

    servers.pause(plan.id)
    servers.pause(plan.id)
    assert servers.get(plan.id).state is model.State.PAUSED
    servers.unpause(plan.id)
    servers.unpause(plan.id)
    servers.power_off(plan.id, 60)
    servers.power_off(plan.id)
    stopped = servers.get(plan.id)
    assert (stopped.state, stopped.exit_code) == (model.State.STOPPED, 7)
    assert host.has_links(0)
    assert servers.console(plan.id) == b"ready\nbye\n"
    assert servers.console(plan.id, tail=1) == b"bye\n"

    servers.power_on(plan)
    servers.power_on(plan)
    assert "fd00:cafe::5/64" in inside(host, plan, "ip address show dev eth0")
    before = servers.get(plan.id).started_at
    for hard in (False, True):
        servers.reboot(plan, hard=hard, timeout=60)
        assert "10.251.0.5/24" in inside(host, plan, "ip address show dev eth0")
    after = servers.get(plan.id).started_at
    assert before is not None
    assert after is not None
    assert after > before

    servers.destroy(plan.id)
    servers.destroy(plan.id)
    assert servers.list() == []
    with pytest.raises(model.ServerNotFound, match=plan.id):
        servers.get(plan.id)


def test_what_is_asked_of_a_server_that_is_not_there_is_refused(service: Service) -> None:
    plan = model.Plan(str(uuid.uuid4()), "none", "none")
    servers = service.servers
    for action in (
        lambda: servers.power_on(plan),
        lambda: servers.power_off(plan.id),
        lambda: servers.reboot(plan),
        lambda: servers.pause(plan.id),
        lambda: servers.unpause(plan.id),
        lambda: servers.console(plan.id),
        lambda: servers.plug(plan),
        lambda: servers.plug_again(plan.id),
        lambda: servers.attach_port(plan.id, server_host.port()),
        lambda: servers.detach_port(plan.id, str(uuid.uuid4())),
    ):
        with pytest.raises(model.ServerNotFound):
            action()
    servers.unplug(plan.id, [server_host.port()])
    servers.destroy(plan.id, ports=[server_host.port()])
    with pytest.raises(exceptions.InvalidRequest):
        servers.get("../" + plan.id)


def test_server_may_be_made_without_starting_it(host: Host, service: Service) -> None:
    plan = host.plan()
    service.servers.spawn(plan, host.image_id, power_on=False)
    assert service.servers.get(plan.id).state is model.State.STOPPED
    service.servers.plug(plan)
    assert host.has_links(0)
    service.servers.power_on(plan)
    assert service.servers.get(plan.id).state is model.State.RUNNING
    assert host.has_links(1)
    service.servers.destroy(plan.id)


def test_server_that_ends_at_once_is_stopped_and_no_failure(host: Host, service: Service) -> None:
    with server(host, service, wish=model.Wish(command=("sh", "-c", "exit 3"))) as plan:
        deadline = time.monotonic() + 60
        while service.servers.get(plan.id).state is not model.State.STOPPED:
            assert time.monotonic() < deadline
        assert service.servers.get(plan.id).exit_code == 3
        service.servers.power_on(plan)
        service.servers.plug(plan)


def test_second_spawn_changes_nothing(host: Host, service: Service) -> None:
    with server(host, service) as plan:
        before = service.servers.get(plan.id)
        with pytest.raises(exceptions.AlreadyExists):
            service.servers.spawn(plan, host.image_id)
        assert service.servers.get(plan.id) == before


def test_command_that_is_not_in_the_image_leaves_nothing(host: Host, service: Service) -> None:
    plan = host.plan(wish=model.Wish(command=("no-such-program",)))
    with pytest.raises(exceptions.InvalidRequest, match="no-such-program"):
        service.servers.spawn(plan, host.image_id)
    assert host.things() == server_host.nothing()


# What a server gets


def test_server_gets_what_its_plan_says(host: Host, service: Service) -> None:
    wish = model.Wish(
        command=server_host.READY, environment={"B": "tenant"}, domainname="example.org"
    )
    limits = model.Limits(memory=64 * 1024**2, cpus=0.5, cpu_shares=200, cpuset="0", pids=50)
    files = {"openstack/latest/meta_data.json": b"{}"}
    more = {"environment": {"A": "operator", "B": "operator"}, "files": files, "limits": limits}
    with server(host, service, wish=wish, **more) as plan:
        script = (
            "echo $A $B; hostname; hostname -f; cat /etc/resolv.conf; grep Cap[BE] /proc/1/status; "
            f"grep NoNew /proc/1/status; cat {spec.CONFIG_DRIVE}/*/*/meta_data.json"
        )
        lines = inside(host, plan, script).splitlines()
        config = host.engine.inspect(host.name(plan.id))
        with host.engine.connection.use() as client:
            raw = client.inspect_container(config.id)["HostConfig"]
        written = host.engine.exec(config.id, ["touch", f"{spec.CONFIG_DRIVE}/x"])
    assert lines[0] == "operator tenant"
    assert "web.example.org" in lines
    # CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID; NET_BIND_SERVICE, SYS_CHROOT,
    # SETFCAP: bits 0, 1, 3 to 7, 10, 18 and 31.
    assert "CapBnd:\t00000000800404fb" in lines
    assert "NoNewPrivs:\t1" in lines
    assert lines[-1] == "{}"
    assert written.exit_code == 1
    assert (raw["Memory"], raw["MemorySwap"]) == (64 * 1024**2, 64 * 1024**2)
    assert (raw["CpuQuota"], raw["CpuPeriod"], raw["CpuShares"]) == (50_000, 100_000, 200)
    assert (raw["CpusetCpus"], raw["PidsLimit"], raw["NetworkMode"]) == ("0", 50, "none")
    assert raw["LogConfig"]["Config"]["max-file"] == "2"
    assert config.labels[model.ROLE] == "main"


def test_name_servers_of_the_networks_reach_the_server(host: Host, service: Service) -> None:
    named = dataclasses.replace(server_host.port(), dns=("192.0.2.53", "192.0.2.54"))
    with server(host, service, ports=(named,)) as plan:
        lines = inside(host, plan, "cat /etc/resolv.conf").splitlines()
    assert [line for line in lines if line.startswith("nameserver")] == [
        "nameserver 192.0.2.53",
        "nameserver 192.0.2.54",
    ]


# Ports


def test_port_comes_and_goes_while_the_server_runs(host: Host, service: Service) -> None:
    second = server_host.port(number=6)
    with server(host, service) as plan:
        for _ in range(2):
            service.servers.attach_port(plan.id, second)
        assert "10.251.0.6/24" in inside(host, plan, "ip address show dev eth1")
        both = dataclasses.replace(plan, ports=(*plan.ports, second))
        service.servers.reboot(both, hard=True)
        assert "10.251.0.6/24" in inside(host, plan, "ip address show dev eth1")
        for _ in range(2):
            service.servers.detach_port(plan.id, second.id)
        assert "eth1" not in inside(host, plan, "ip link")
        service.servers.plug_again(plan.id)
        assert host.has_links(1)


def test_port_that_can_not_be_plugged_is_not_kept(host: Host, service: Service) -> None:
    bad = dataclasses.replace(
        server_host.port(model.Binding.BRIDGE, number=6), bridge="cstest-none"
    )
    with server(host, service) as plan:
        with pytest.raises(exceptions.NotFound, match="cstest-none"):
            service.servers.attach_port(plan.id, bad)
        service.servers.plug_again(plan.id)
        assert "eth1" not in inside(host, plan, "ip link")
        service.servers.power_off(plan.id)
        with pytest.raises(exceptions.NotFound):
            service.servers.power_on(dataclasses.replace(plan, ports=(*plan.ports, bad)))
        assert service.servers.get(plan.id).state is model.State.STOPPED
        assert host.has_links(0)
        service.servers.power_on(plan)
        assert host.has_links(1)


def test_server_has_the_ports_of_the_plan_it_is_started_by(host: Host, service: Service) -> None:
    second = server_host.port(number=6)
    with server(host, service) as plan:
        service.servers.attach_port(plan.id, second)
        service.servers.reboot(plan, hard=True)
        assert host.has_links(1)
        both = dataclasses.replace(plan, ports=(*plan.ports, second))
        service.servers.plug(both)
        assert host.has_links(2)
        # Of those that it has, a plan may not know all: somebody is attaching one.
        service.servers.plug(plan)
        service.servers.plug_again(plan.id)
        assert host.has_links(2)
        service.servers.detach_port(plan.id, second.id)
        assert host.has_links(1)


def test_server_is_held_until_the_network_has_taken_its_ports(host: Host, service: Service) -> None:
    plan = host.plan()
    seen: list[object] = []

    @contextlib.contextmanager
    def plugging() -> Iterator[None]:
        yield
        # All of this is while somebody waits for events.
        seen.extend((service.servers.get(plan.id).state, len(host.links())))

    service.servers.spawn(plan, host.image_id, plugging=plugging())
    assert seen == [model.State.PAUSED, 1]
    assert service.servers.get(plan.id).state is model.State.RUNNING
    service.servers.power_off(plan.id)
    service.servers.power_on(plan, plugging=plugging())
    assert seen[2:] == [model.State.PAUSED, 1]
    assert service.servers.get(plan.id).state is model.State.RUNNING
    service.servers.destroy(plan.id)


def test_port_that_never_comes_up_undoes_everything(host: Host, service: Service) -> None:
    class NeverUpError(Exception):
        """As Nova's VirtualInterfaceCreateException."""

    @contextlib.contextmanager
    def plugging() -> Iterator[None]:
        yield
        raise NeverUpError

    plan = host.plan(files={"x": b"y"})
    with pytest.raises(NeverUpError):
        service.servers.spawn(plan, host.image_id, plugging=plugging())
    assert host.things() == server_host.nothing()
    service.servers.spawn(plan, host.image_id, power_on=False)
    with pytest.raises(NeverUpError):
        service.servers.power_on(plan, plugging=plugging())
    assert service.servers.get(plan.id).state is model.State.STOPPED
    service.servers.destroy(plan.id)


def test_server_that_was_started_behind_our_back_is_plugged_again(
    host: Host, service: Service
) -> None:
    with server(host, service) as plan:
        host.engine.restart(host.name(plan.id), timeout=0)
        assert "eth0" not in inside(host, plan, "ip link")
        service.servers.plug_again(plan.id)
        assert "10.251.0.5/24" in inside(host, plan, "ip address show dev eth0")
        host.engine.restart(host.name(plan.id), timeout=0)
        assert service.servers.start() == []
        assert "10.251.0.5/24" in inside(host, plan, "ip address show dev eth0")
        host.engine.stop(host.name(plan.id), timeout=0)
        assert service.servers.start() == []
        assert service.servers.get(plan.id).state is model.State.STOPPED


# Others


def test_containers_of_others_are_neither_seen_nor_touched(
    host: Host, service: Service, image_id: str
) -> None:
    plan = host.plan()
    names = {
        "same name": spec.container_name(plan.id),
        "same label": f"cstest-{uuid.uuid4().hex}",
    }
    foreign = [
        host.engine.create(
            containers.ContainerSpec(
                name=name,
                image=image_id,
                labels={} if what == "same name" else spec.labels("another", plan.id),
            )
        )
        for what, name in names.items()
    ]
    try:
        assert service.servers.list() == []
        with pytest.raises(model.ServerNotFound):
            service.servers.get(plan.id)
        with pytest.raises(exceptions.AlreadyExists):
            service.servers.spawn(plan, image_id)
        service.servers.destroy(plan.id)
        assert service.servers.start() == []
        assert [host.engine.inspect(each).state for each in foreign] == ["created"] * 2
        assert host.things() == server_host.nothing()
    finally:
        for each in foreign:
            host.engine.remove(each)


def test_list_is_one_call_whatever_the_number(host: Host, service: Service) -> None:
    plans = [host.plan(ports=()) for _ in range(4)]
    for plan in plans:
        service.servers.spawn(plan, host.image_id, power_on=False)
    with counted_calls(host.engine) as calls:
        found = service.servers.list()
    assert len(calls) == 1
    assert [each.id for each in found] == sorted(plan.id for plan in plans)
    for plan in plans:
        service.servers.destroy(plan.id)


# Threads


def test_32_boots_at_once_succeed(host: Host, service: Service) -> None:
    plans = [host.plan(ports=(server_host.port(number=number),)) for number in range(2, 34)]
    with futures.ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda plan: service.servers.spawn(plan, host.image_id), plans))
        assert {each.state for each in service.servers.list()} == {model.State.RUNNING}
        assert len(host.links()) == len(service.servers.list()) == 32
        list(pool.map(lambda plan: service.servers.destroy(plan.id), plans))


def test_threads_that_disagree_about_a_server_leave_it_whole_or_gone(
    host: Host, service: Service
) -> None:
    plan = host.plan()
    servers = service.servers
    actions = [
        lambda: servers.spawn(plan, host.image_id),
        lambda: servers.destroy(plan.id),
        lambda: servers.power_on(plan),
        lambda: servers.reboot(plan, hard=True),
        lambda: servers.power_off(plan.id),
        lambda: servers.start(),
    ]
    barrier = threading.Barrier(len(actions))

    def work(number: int) -> None:
        barrier.wait()
        for turn in range(4):
            with contextlib.suppress(model.ServerNotFound, exceptions.AlreadyExists):
                actions[(number + turn) % len(actions)]()

    with futures.ThreadPoolExecutor(len(actions)) as pool:
        list(pool.map(work, range(len(actions))))
    with contextlib.suppress(model.ServerNotFound):
        servers.power_on(plan)
        assert host.has_links(1)
    servers.destroy(plan.id)


# A user who isn't root


def test_normal_user_keeps_servers_by_sudo_and_the_shipped_filters(
    engine: containers.Engine, image_id: str, shared_host: Host
) -> None:
    group = server_host.engine_group()
    with service_account.account(driver="nova", groups=[group]) as account:

        def life() -> list[str]:
            settings = dataclasses.replace(
                shared_host.settings, state_dir=str(account.state), root_helper=account.helper
            )
            service = assembly.open_service(settings)
            with contextlib.closing(service):
                service.servers.start()
                plan = shared_host.plan(files={"a/b": b"c"})
                service.servers.spawn(plan, image_id)
                address = inside(shared_host, plan, "ip address show dev eth0")
                service.servers.reboot(plan)
                again = inside(shared_host, plan, "ip address show dev eth0")
                service.servers.destroy(plan.id)
            return [address, again]

        for said in account.call(life):
            assert "10.251.0.5/24" in said
    assert shared_host.has_links(0)
