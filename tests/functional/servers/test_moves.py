# SPDX-License-Identifier: Apache-2.0
"""Servers are resized, moved, built anew and rescued, and keep what is theirs."""

import contextlib
import dataclasses
import json
import subprocess
from collections.abc import Iterator

import pytest

from container_stack import exceptions
from container_stack.host import containers, images
from container_stack.servers import assembly, model
from container_stack.servers.moving import parcels, roots

from .. import service_account
from . import server_host

MIB = 1024**2
#: Its tenant's own words are no part of its image.
WISH = model.Wish(
    command=server_host.READY,
    environment={"SECRET": "cstest-hush"},
    volumes=(("", "/data", False),),
)


@pytest.fixture
def plan(host: server_host.Host, service: assembly.Service) -> Iterator[model.Plan]:
    """A server that runs and has written something; gone afterwards, with all of its states."""
    made = host.plan(wish=WISH, files={"a": b"drive"})
    service.servers.spawn(made, host.image_id)
    write(host, made, "first")
    yield made
    service.servers.destroy(made.id)
    service.moves.confirm(made.id)
    service.rescues.tidy(made.id)
    with contextlib.suppress(OSError):
        (host.state_dir / "locks" / "mounts").rmdir()
    assert states(host) == []


def run(host: server_host.Host, plan: model.Plan, line: str) -> str:
    result = host.engine.exec(host.name(plan.id), ["sh", "-c", line])
    assert result.exit_code == 0, result
    return result.stdout.decode()


def write(host: server_host.Host, plan: model.Plan, text: str) -> None:
    run(host, plan, f"echo {text} > /root.txt; echo {text} > /data/in-volume")


def content(host: server_host.Host, plan: model.Plan) -> str:
    return run(host, plan, "cat /root.txt /data/in-volume; cat /var/lib/cloud/seed/config_drive/a")


def states(host: server_host.Host) -> list[str]:
    found = images.Images(host.engine).labelled("container_stack.state")
    return [each.id for each in found if each.labels["container_stack.owner"] == host.owner]


def memory(host: server_host.Host, plan: model.Plan) -> int:
    for name in ("memory/memory.limit_in_bytes", "memory.max"):
        with contextlib.suppress(AssertionError):
            return int(run(host, plan, f"cat /sys/fs/cgroup/{name}"))
    raise AssertionError("no limit is to be seen")


def larger(plan: model.Plan) -> model.Plan:
    return dataclasses.replace(plan, limits=model.Limits(memory=96 * MIB))


def interfaces(host: server_host.Host, plan: model.Plan) -> str:
    return run(host, plan, "ip -o -4 addr show eth0")


def test_resized_server_is_what_it_was_within_its_new_limits(
    host: server_host.Host, service: assembly.Service, plan: model.Plan
) -> None:
    before = interfaces(host, plan)
    service.moves.park(plan)
    service.moves.park(plan)
    assert service.servers.list() == []
    assert service.servers.ids() == [plan.id]
    assert host.links() == []
    for _ in range(2):
        service.moves.finish(larger(plan))
    assert [each.state for each in service.servers.list()] == [model.State.RUNNING]
    assert content(host, plan) == "first\nfirst\ndrive"
    assert memory(host, plan) == 96 * MIB
    assert interfaces(host, plan).split()[3] == before.split()[3]
    with pytest.raises(exceptions.Busy, match="confirm or revert"):
        service.moves.park(plan)
    for _ in range(2):
        service.moves.confirm(plan.id)
    assert len(host.engine.list(host.labels())) == 1
    assert content(host, plan) == "first\nfirst\ndrive"


def test_reverted_resize_brings_back_what_was_before_and_nothing_later(
    host: server_host.Host, service: assembly.Service, plan: model.Plan
) -> None:
    service.moves.park(plan)
    service.moves.finish(larger(plan))
    write(host, plan, "second")
    service.servers.destroy(plan.id, ports=plan.ports)
    for _ in range(2):
        service.moves.revert(plan)
    assert content(host, plan) == "first\nfirst\ndrive"
    assert len(host.links()) == 1
    # What was made of it for that resize is too old for the next.
    write(host, plan, "third")
    service.moves.park(plan)
    service.moves.finish(larger(plan))
    assert content(host, plan) == "third\nthird\ndrive"


def test_server_can_be_resized_again_and_again(
    host: server_host.Host, service: assembly.Service, plan: model.Plan
) -> None:
    for text in ("second", "third"):
        service.moves.park(plan)
        service.moves.finish(plan)
        service.moves.confirm(plan.id)
        write(host, plan, text)
    assert content(host, plan) == "third\nthird\ndrive"
    assert run(host, plan, "echo $SECRET") == "cstest-hush\n"
    # A snapshot of it tells no more of its tenant than one of a server that was never resized.
    with service.snapshots.taking(plan.id) as archive:
        assert b"cstest-hush" not in b"".join(archive)


def test_resize_that_fails_leaves_what_stood_aside(
    host: server_host.Host, service: assembly.Service, plan: model.Plan
) -> None:
    service.moves.park(plan)
    impossible = dataclasses.replace(plan, wish=model.Wish(command=("/no/such",)))
    with pytest.raises(exceptions.InvalidRequest):
        service.moves.finish(impossible)
    assert service.servers.list() == []
    assert host.links() == []
    service.moves.revert(plan)
    assert content(host, plan) == "first\nfirst\ndrive"


def test_server_that_cannot_stand_aside_runs_on(
    host: server_host.Host, service: assembly.Service, plan: model.Plan, image_id: str
) -> None:
    taken = containers.ContainerSpec(
        name=f"{host.name(plan.id)}-resized", image=image_id, labels={"container_stack.test": "1"}
    )
    host.engine.create(taken)
    try:
        with pytest.raises(exceptions.AlreadyExists):
            service.moves.park(plan)
    finally:
        host.engine.remove(taken.name)
    assert content(host, plan) == "first\nfirst\ndrive"
    assert len(host.links()) == 1
    assert states(host) == []


@pytest.fixture
def other(tmp_path_factory: pytest.TempPathFactory, image_id: str) -> Iterator[server_host.Host]:
    """Another host, of another owner, on the same engine."""
    made = server_host.Host(tmp_path_factory.mktemp("other"), image_id)
    yield made
    left = made.things()
    service = made.service()
    for each in service.servers.list():
        service.servers.destroy(each.id)
        service.moves.confirm(each.id)
    made.close()
    assert states(made) == []
    assert left == server_host.nothing() | {"links": left["links"]}


def test_server_moves_to_another_host_and_back(
    host: server_host.Host,
    service: assembly.Service,
    other: server_host.Host,
    plan: model.Plan,
) -> None:
    run(host, plan, "mkdir /data/deep; ln -s /root.txt /data/deep/link; chmod 700 /data")
    there = other.service()
    service.moves.park(plan)
    with service.moves.sending(plan.id) as parcel:
        there.moves.receive(larger(plan), parcel)
    assert content(other, plan) == "first\nfirst\ndrive"
    assert run(other, plan, "cat /data/deep/link; stat -c %a /data") == "first\n700\n"
    assert memory(other, plan) == 96 * MIB
    service.moves.confirm(plan.id)
    # The link is the other host's, on this machine.
    assert host.things() == server_host.nothing() | {"links": 1}
    write(other, plan, "second")
    there.moves.park(plan)
    with there.moves.sending(plan.id) as parcel:
        service.moves.receive(plan, parcel)
    there.moves.confirm(plan.id)
    assert content(host, plan) == "second\nsecond\ndrive"


def test_server_that_did_not_arrive_leaves_nothing_and_is_still_there(
    host: server_host.Host,
    service: assembly.Service,
    other: server_host.Host,
    plan: model.Plan,
) -> None:
    there = other.service()
    service.moves.park(plan)
    with service.moves.sending(plan.id) as parcel:
        whole = b"".join(parcel)
    listed, *rest = unpacked(whole)
    wrong = json.loads(listed) | {"image": f"sha256:{'0' * 64}"}
    volumes = [each | {"target": "data"} for each in json.loads(listed)["volumes"]]
    path = json.loads(listed) | {"volumes": volumes}
    bad = {
        "too early": whole[:-100],
        "too early ": whole[: len(whole) // 2],
        "no parcel": b"\xff" * 100,
        "more parts": whole + b"x",
        "bad list": packed([json.dumps(path).encode(), *rest]),
        "no list": packed([b"[]", *rest]),
        "isn't sha256:0": packed([json.dumps(wrong).encode(), *rest]),
    }
    for words, parcel_bytes in bad.items():
        with pytest.raises(exceptions.InvalidRequest, match=words.strip()):
            there.moves.receive(plan, [parcel_bytes])
        assert other.things()["containers"] == other.things()["records"] == 0, words
    service.moves.revert(plan)
    assert content(host, plan) == "first\nfirst\ndrive"


def unpacked(whole: bytes) -> list[bytes]:
    parcel = parcels.Parcel([whole])
    return [b"".join(parcel.part()) for _ in range(3)]


def packed(parts: list[bytes]) -> bytes:
    return b"".join(parcels.pack([part] for part in parts))


def test_rebuilt_server_begins_anew_with_its_ports(
    host: server_host.Host, service: assembly.Service, plan: model.Plan
) -> None:
    before = interfaces(host, plan).split()[3]
    service.moves.rebuild(plan, larger(plan), host.image_id)
    assert run(host, plan, "test ! -e /root.txt; test ! -e /data/in-volume; echo new") == "new\n"
    assert interfaces(host, plan).split()[3] == before
    assert memory(host, plan) == 96 * MIB
    assert len(host.engine.list(host.labels())) == 1


def test_rebuild_that_fails_leaves_the_server_as_it_was(
    host: server_host.Host, service: assembly.Service, plan: model.Plan
) -> None:
    impossible = dataclasses.replace(plan, wish=model.Wish(command=("/no/such",)))
    with pytest.raises(exceptions.InvalidRequest):
        service.moves.rebuild(plan, impossible, host.image_id)
    with pytest.raises(exceptions.NotFound):
        service.moves.rebuild(plan, plan, f"sha256:{'0' * 64}")
    assert content(host, plan) == "first\nfirst\ndrive"
    assert len(host.links()) == 1
    assert len(host.engine.list(host.labels())) == 1


def test_rescued_server_can_be_repaired(
    host: server_host.Host, service: assembly.Service, plan: model.Plan
) -> None:
    for _ in range(2):
        service.rescues.rescue(plan, host.image_id)
    assert interfaces(host, plan)
    assert run(host, plan, "test ! -e /root.txt; cat /rescued/data/in-volume") == "first\n"
    mounted = bool(service.engine.layers(host.name(plan.id)))
    if mounted:
        run(host, plan, "echo repaired > /rescued/root.txt")
    for _ in range(2):
        service.rescues.unrescue(plan)
    assert content(host, plan).split()[0] == ("repaired" if mounted else "first")
    assert len(host.links()) == 1


def test_server_that_is_destroyed_while_it_is_rescued_leaves_nothing(
    host: server_host.Host, service: assembly.Service, plan: model.Plan
) -> None:
    service.rescues.rescue(plan, host.image_id)
    service.servers.destroy(plan.id)
    service.rescues.tidy(plan.id)
    assert str(host.state_dir) not in mount_table()


def test_root_of_too_many_layers_is_not_shown(
    host: server_host.Host,
    service: assembly.Service,
    plan: model.Plan,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(roots, "LONGEST", 10)
    service.rescues.rescue(plan, host.image_id)
    assert "without a way to its root: it has too many layers" in caplog.text
    service.rescues.unrescue(plan)
    assert content(host, plan) == "first\nfirst\ndrive"


def test_normal_user_moves_servers_by_sudo_and_the_shipped_filters(
    engine: containers.Engine,
    shared_host: server_host.Host,
    image_id: str,
) -> None:
    with service_account.account(driver="nova", groups=[server_host.engine_group()]) as account:

        def moves() -> list[str]:
            settings = dataclasses.replace(
                shared_host.settings, state_dir=str(account.state), root_helper=account.helper
            )
            plan = shared_host.plan(wish=WISH, files={"a": b"drive"})
            with contextlib.closing(assembly.open_service(settings)) as service:
                service.start()
                service.servers.spawn(plan, image_id)
                write(shared_host, plan, "first")
                service.moves.park(plan)
                with service.moves.sending(plan.id) as parcel:
                    assert b"".join(parcel)
                service.moves.finish(larger(plan))
                said = [content(shared_host, plan), interfaces(shared_host, plan)]
                service.servers.destroy(plan.id)
                service.moves.revert(plan)
                service.rescues.rescue(plan, image_id)
                if service.engine.layers(shared_host.name(plan.id)):
                    said.append(run(shared_host, plan, "cat /rescued/root.txt"))
                service.rescues.unrescue(plan)
                service.moves.rebuild(plan, larger(plan), image_id)
                said.append(interfaces(shared_host, plan))
                service.servers.destroy(plan.id)
                service.moves.confirm(plan.id)
                service.rescues.tidy(plan.id)
            return said

        said = account.call(moves)
    assert said[0] == "first\nfirst\ndrive"
    assert "10.251.0.5/24" in said[1]
    assert "10.251.0.5/24" in said[-1]
    assert said[2:-1] in ([], ["first\n"])
    assert shared_host.has_links(0)
    assert states(shared_host) == []


def mount_table() -> str:
    return subprocess.run(["mount"], capture_output=True, text=True, check=True).stdout
