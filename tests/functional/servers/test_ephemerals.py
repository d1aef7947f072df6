# SPDX-License-Identifier: Apache-2.0
"""Ephemeral disks are as large as they should be, go where their server goes, and go with it."""

import contextlib
import dataclasses
import itertools
import multiprocessing
import os
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.host import mounts
from container_stack.servers import assembly, model
from container_stack.testing import storage_world

from .. import service_account
from . import mortal, server_host

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="interfaces need root")

MIB = 1024**2
DISK = model.Ephemeral("vdb", 24 * MIB)
SWAP = "cd /sys/fs/cgroup; cat memory/memory.memsw.limit_in_bytes memory.swap.max 2>/dev/null || :"


@pytest.fixture
def host(tmp_path: Path, image_id: str) -> Iterator[server_host.Host]:
    with contextlib.ExitStack() as opened:
        yield opened.enter_context(own_host(tmp_path / "host", image_id))


@contextlib.contextmanager
def own_host(directory: Path, image_id: str) -> Iterator[server_host.Host]:
    directory.mkdir()
    made = server_host.Host(directory, image_id, prefix=uuid.uuid4().hex[:4])
    with contextlib.closing(made):
        yield made
    assert left(made) == []


def left(host: server_host.Host) -> list[object]:
    """Return what no server has any more: volumes, mounts and loop devices."""
    state = str(host.state_dir)
    files = [each.name for each in Path(state, "volumes").glob("*")]
    below = [mount.path for mount in mounts.below(state)]
    return [*files, *below, *storage_world.leftovers(state), *host.engine.list(host.labels())]


def disks(host: server_host.Host) -> int:
    return len(list(Path(host.state_dir, "volumes").glob("*.img")))


def boot(host: server_host.Host, service: assembly.Service, text: str = "first") -> model.Plan:
    plan = host.plan(ephemerals=(DISK,), ports=())
    service.servers.spawn(plan, host.image_id)
    if text:
        run(host, plan, f"echo {text} > /volumes/vdb/file; chown 7:8 /volumes/vdb/file")
    return plan


def run(host: server_host.Host, plan: model.Plan, line: str) -> str:
    result = host.engine.exec(host.name(plan.id), ["sh", "-c", line])
    assert result.exit_code == 0, result
    return result.stdout.decode().strip()


def content(host: server_host.Host, plan: model.Plan) -> str:
    return run(host, plan, "cat /volumes/vdb/file; stat -c %u:%g /volumes/vdb/file")


def size(host: server_host.Host, plan: model.Plan) -> int:
    return int(run(host, plan, "df -m /volumes/vdb | tail -n 1").split()[1])


def test_a_server_has_its_disk_until_it_goes(host: server_host.Host) -> None:
    service = host.service()
    plan = boot(host, service)
    assert size(host, plan) < 24
    full = "dd if=/dev/zero of=/volumes/vdb/full bs=1M count=99 2>&1 || true"
    assert "No space left" in run(host, plan, full)
    options = run(host, plan, "grep ' /volumes/vdb ' /proc/mounts")
    assert {"nosuid", "nodev", "rw"} <= set(options.split()[3].split(","))
    service.servers.reboot(plan, hard=True)
    assert content(host, plan) == "first\n7:8"
    service.servers.destroy(plan.id)
    service.servers.destroy(plan.id)
    assert left(host) == []


def test_after_a_reboot_of_the_host_the_disk_is_what_it_was(host: server_host.Host) -> None:
    service = host.service()
    plan = boot(host, service)
    service.servers.power_off(plan.id)
    for mount in mounts.below(str(host.state_dir)):
        subprocess.run(["umount", mount.path], check=True)
        subprocess.run(["losetup", "--detach", mount.source], check=True)
    again = host.service()
    again.start()
    again.servers.power_on(plan)
    assert content(host, plan) == "first\n7:8"
    again.servers.destroy(plan.id)


def test_resized_server_has_what_it_had_on_a_larger_disk(host: server_host.Host) -> None:
    service = host.service()
    plan = boot(host, service)
    before = size(host, plan)
    larger = dataclasses.replace(plan, ephemerals=(model.Ephemeral("vdb", 48 * MIB),))
    service.moves.park(plan)
    service.moves.finish(larger)
    assert (content(host, plan), disks(host)) == ("first\n7:8", 2)
    assert size(host, plan) > before + 16
    run(host, plan, "echo second > /volumes/vdb/file")
    service.servers.destroy(plan.id)
    service.moves.revert(plan)
    assert (content(host, plan), disks(host)) == ("first\n7:8", 1)
    service.moves.park(plan)
    service.moves.finish(larger)
    service.moves.confirm(plan.id)
    assert (content(host, plan), disks(host)) == ("first\n7:8", 1)
    service.servers.destroy(plan.id)
    service.moves.confirm(plan.id)


def test_disk_goes_to_another_host(host: server_host.Host, tmp_path: Path, image_id: str) -> None:
    service = host.service()
    plan = boot(host, service)
    with own_host(tmp_path / "there", image_id) as other:
        there = other.service()
        service.moves.park(plan)
        with service.moves.sending(plan.id) as parcel:
            there.moves.receive(plan, parcel)
        service.moves.confirm(plan.id)
        assert disks(host) == 0
        assert content(other, plan) == "first\n7:8"
        there.servers.destroy(plan.id)
        there.moves.confirm(plan.id)


def test_rebuilt_server_begins_with_an_empty_disk(host: server_host.Host) -> None:
    service = host.service()
    plan = boot(host, service)
    missing = "sha256:" + "0" * 64
    with pytest.raises(exceptions.NotFound):
        service.moves.rebuild(plan, plan, missing)
    assert (content(host, plan), disks(host)) == ("first\n7:8", 1)
    service.moves.rebuild(plan, plan, host.image_id)
    assert run(host, plan, "ls /volumes/vdb") == "lost+found"
    assert disks(host) == 1
    service.servers.destroy(plan.id)
    service.moves.confirm(plan.id)


def test_rescued_servers_disk_is_within_its_root(host: server_host.Host) -> None:
    service = host.service()
    plan = boot(host, service)
    service.rescues.rescue(plan, host.image_id)
    assert run(host, plan, "cat /rescued/volumes/vdb/file") == "first"
    assert disks(host) == 1
    run(host, plan, "echo repaired > /rescued/volumes/vdb/file")
    service.rescues.unrescue(plan)
    assert content(host, plan) == "repaired\n7:8"
    service.servers.destroy(plan.id)
    service.rescues.tidy(plan.id)


def test_disk_that_the_host_has_no_room_for_is_refused(host: server_host.Host) -> None:
    service = host.service()
    huge = (DISK, model.Ephemeral("vdc", 2**60))
    with pytest.raises(exceptions.NoSpace):
        service.servers.spawn(host.plan(ephemerals=huge, ports=()), host.image_id)
    assert left(host) == []


def test_engine_cannot_restart_what_must_be_mounted_before(host: server_host.Host) -> None:
    with pytest.raises(exceptions.InvalidRequest, match="restart policy"):
        host.plan(ephemerals=(DISK,), wish=model.Wish(restart="always"))


def test_disks_of_a_container_that_somebody_removed_go_at_the_next_start(
    host: server_host.Host,
) -> None:
    service = host.service()
    plan = boot(host, service)
    host.engine.remove(service.servers.get(plan.id).container_id)
    assert f"Server {plan.id} had no container any more" in "".join(host.service().start())
    assert left(host) == []


# A user who isn't root


def test_normal_user_has_disks_and_swap_by_sudo_and_the_shipped_filters(
    host: server_host.Host, image_id: str
) -> None:
    limits = model.Limits(memory=48 * MIB, swap=16 * MIB)
    plan = host.plan(ephemerals=(DISK,), ports=(), limits=limits)
    larger = dataclasses.replace(plan, ephemerals=(model.Ephemeral("vdb", 48 * MIB),))
    with service_account.account(driver="nova", groups=[server_host.engine_group()]) as account:

        def life() -> tuple[list[str], list[int], str]:
            settings = dataclasses.replace(
                host.settings, state_dir=str(account.state), root_helper=account.helper
            )
            with contextlib.closing(assembly.open_service(settings)) as service:
                service.start()
                service.servers.spawn(plan, image_id)
                swap = run(host, plan, SWAP)
                run(host, plan, "echo first > /volumes/vdb/file; chown 7:8 /volumes/vdb/file")
                sizes, seen = [size(host, plan)], []
                service.servers.reboot(plan, hard=True)
                seen.append(content(host, plan))
                service.moves.park(plan)
                service.moves.finish(larger)
                service.moves.confirm(plan.id)
                sizes.append(size(host, plan))
                service.rescues.rescue(larger, image_id)
                seen.append(run(host, plan, "cat /rescued/volumes/vdb/file"))
                service.rescues.unrescue(larger)
                service.moves.rebuild(larger, larger, image_id)
                seen.append(run(host, plan, "ls /volumes/vdb"))
                service.servers.destroy(plan.id)
                service.moves.confirm(plan.id)
                service.rescues.tidy(plan.id)
            return seen, sizes, swap

        seen, sizes, swap = account.call(life)
        assert list(account.state.glob("volumes/*.img")) == []
        assert storage_world.leftovers(str(account.state)) == []
        assert not list(mounts.below(str(account.state)))
    assert seen == ["first\n7:8", "first", "lost+found"]
    assert sizes[0] < 24 < sizes[1]
    if host.engine.info()["SwapLimit"]:
        # With memory in version 1 of cgroups, and alone in version 2.
        assert int(swap) in (64 * MIB, 16 * MIB)


# Killed


def act(settings: assembly.Settings, image_id: str, plan: model.Plan, last: int) -> None:
    """Make a server and remove it, in this process, and be killed after a step."""
    fate = mortal.Fate(last, mortal.kill)
    service = mortal.service(settings, fate)
    fate.bind(service.executor, "run")
    service.servers.spawn(plan, image_id)
    service.servers.destroy(plan.id)


def test_whenever_it_is_killed_no_disk_is_left_that_no_server_has(
    host: server_host.Host, image_id: str
) -> None:
    spawner = multiprocessing.get_context("forkserver")
    spawner.set_forkserver_preload([assembly.__name__])
    plan = host.plan(ephemerals=(DISK,), ports=())
    for last in itertools.count(1):
        arguments = (host.settings, image_id, plan, last)
        child = spawner.Process(target=act, args=arguments)
        child.start()
        child.join(300)
        if child.exitcode == 0:
            break
        assert child.exitcode == -signal.SIGKILL
        service = host.service(run=mortal.RootExecutor(state_dir=str(host.state_dir)))
        assert not any("Could not" in words for words in service.start())
        assert disks(host) == len(service.servers.list()), last
        service.servers.destroy(plan.id)
        assert left(host) == [], last
    assert last > 12, "it has more steps than this; were they counted?"
