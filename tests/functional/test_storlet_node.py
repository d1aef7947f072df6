# SPDX-License-Identifier: Apache-2.0
"""A node with a real engine: the suite of all nodes, and what only a real one can show."""

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from container_stack import exceptions
from container_stack.storlets import gateway, nodes
from container_stack.storlets.node import daemons, probe
from container_stack.testing import node_contract

from . import busybox, storlet_client, storlet_node
from .storlet_node import ready


@pytest.fixture(scope="module")
def node_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The engine of a Swift node, with the base image."""
    with storlet_node.running(tmp_path_factory.mktemp("node")) as daemon:
        yield daemon.url


class TestEngineNode(node_contract.NodeContract):
    """The suite that every node passes."""

    @pytest.fixture
    def world(self, node_url: str) -> Iterator[storlet_node.NodeWorld]:
        with storlet_node.world(node_url) as made:
            yield made


@pytest.fixture
def world(node_url: str) -> Iterator[storlet_node.NodeWorld]:
    with storlet_node.world(node_url) as made:
        yield made


@contextlib.contextmanager
def load(world: storlet_node.NodeWorld, clients: int = 3) -> Iterator[list[Mapping[str, Any]]]:
    """Send requests all the time; what became of them is known in the end."""
    running = [storlet_client.Client(world.url, world.order()) for _client in range(clients)]
    results: list[Mapping[str, Any]] = []
    try:
        results += [each.first() for each in running]
        yield results
    finally:
        for each in running:
            results += each.stop()


def errors(results: list[Mapping[str, Any]]) -> list[str]:
    return [result["error"] for result in results if result["error"]]


def test_no_request_fails_while_images_are_switched(world: storlet_node.NodeWorld) -> None:
    one, two = ready(world, "one", "two")
    world.serve(world.account)
    with load(world) as results:
        for image_id in (one, two, one, two, one):
            world.node.switch(world.account, image_id)
    assert errors(results) == []
    assert {result["image"] for result in results} == {"default", "one", "two"}
    assert len(results) > 50
    [left] = world.engine.list({"managed_by": "storlets"})
    assert (left.name, left.image_id) == (world.account.sandbox, one)


def test_request_that_runs_is_finished_in_the_image_that_it_began_in(
    world: storlet_node.NodeWorld,
) -> None:
    one, two = ready(world, "one", "two")
    world.node.switch(world.account, one)
    world.serve(world.account)
    client = storlet_client.Client(world.url, world.order(sleep=8, once=True))
    await_daemons(world, 2)
    world.node.switch(world.account, two)
    result = client.first()
    client.stop()
    assert (result["error"], result["image"]) == (None, "one")
    assert world.serve(world.account) == two


def test_request_that_takes_longer_than_the_grace_is_cut_off(
    world: storlet_node.NodeWorld,
) -> None:
    one, two = ready(world, "one", "two")
    world.node.switch(world.account, one)
    world.serve(world.account)
    client = storlet_client.Client(world.url, world.order(sleep=300, once=True))
    await_daemons(world, 2)
    world.again(grace=2).switch(world.account, two)
    assert world.serve(world.account) == two
    assert client.first()["error"]
    client.stop()


def test_storlets_that_ran_run_in_the_new_sandbox_before_it_is_used(
    world: storlet_node.NodeWorld,
) -> None:
    one, two = ready(world, "one", "two")
    world.node.switch(world.account, one)
    for module in ("cstest_which", "cstest_other"):
        storlet_client.ask(world.url, world.order(module=module))
    world.node.switch(world.account, two)
    [sandbox] = world.engine.list({"managed_by": "storlets"})
    found = daemons.running(world.engine, sandbox.id)
    assert set(found) == {"cstest_which.Which", "cstest_other.Which"}
    answer = storlet_client.ask(world.url, world.order(module="cstest_other"))
    assert answer["image"] == "two"
    assert answer["end"] - answer["begin"] < 0.8, "its daemon was started for it"


def test_storlet_that_changes_meanwhile_runs_as_it_is_now(world: storlet_node.NodeWorld) -> None:
    one, two = ready(world, "one", "two")
    world.node.switch(world.account, one)
    storlet_client.ask(world.url, world.order(code="1"))
    world.node.switch(world.account, two)
    fresh = {"code": "two", "timestamp": str(time.time() + 5)}
    answer = storlet_client.ask(world.url, world.order(**fresh))
    assert (answer["code"], answer["image"]) == ("two", "two")


@pytest.mark.parametrize(
    ("files", "patience", "said"),
    [
        ("NO_START", 60, "ended at once"),
        ("SILENT", 3, "didn't answer in 3 seconds"),
        ("GARBAGE", 60, "data came back changed"),
        ("FORGETFUL", 60, "metadata came back changed"),
    ],
)
def test_image_that_is_unusable_never_meets_a_request(
    world: storlet_node.NodeWorld, files: str, patience: int, said: str
) -> None:
    [good] = ready(world, "good")
    bad = world.image("bad", getattr(storlet_node, files))
    node_contract.stage(world, bad)
    world.node.switch(world.account, good)
    patient = {"restart_linux_container_timeout": str(patience)}
    world.gateway = gateway.Gateway.of(world.options | patient)
    before = [each.id for each in world.engine.list({"managed_by": "storlets"})]
    with load(world, 1) as results, pytest.raises(exceptions.ProbeFailed) as failed:
        world.again().switch(world.account, bad.image_id)
    assert said in str(failed.value)
    assert errors(results) == []
    assert {result["image"] for result in results} == {"good"}
    assert [each.id for each in world.engine.list({"managed_by": "storlets"})] == before
    assert world.images.tagged(world.account.image) == {world.account.image: good}


def test_image_without_python_is_unusable(world: storlet_node.NodeWorld) -> None:
    empty = busybox.import_image(world.images, "cstest-empty:latest")
    world.images.tag(empty.id, f"container-stack-storlets/{world.account.scope}:{empty.id[7:19]}")
    with pytest.raises(exceptions.ProbeFailed, match="python3"):
        world.node.switch(world.account, empty.id)
    assert world.node.state(world.account).image_id is None


def test_image_that_the_operator_tagged_by_hand_is_kept(world: storlet_node.NodeWorld) -> None:
    [new] = ready(world, "new")
    theirs = world.image("by-hand")
    world.images.load(theirs.stream(1))
    world.images.tag(theirs.image_id, world.account.image)
    assert world.serve(world.account) == theirs.image_id
    world.node.switch(world.account, new)
    assert world.node.state(world.account).kept == {theirs.image_id, new}
    world.node.switch(world.account, theirs.image_id)
    assert world.serve(world.account) == theirs.image_id


def test_sandbox_runs_as_the_owner_of_the_pipes(world: storlet_node.NodeWorld) -> None:
    [new] = ready(world, "new")
    for path in (world.gateway.pipes, world.gateway.storlets):
        os.chown(path, 4242, 4242)
    world.node.switch(world.account, new)
    [sandbox] = world.engine.list({"managed_by": "storlets"})
    assert world.engine.inspect(sandbox.id).user == "4242"
    pipe = Path(world.gateway.pipes, world.account.scope, "factory_pipe")
    assert pipe.stat().st_uid == 4242


def test_links_of_a_tenant_lead_nowhere(world: storlet_node.NodeWorld) -> None:
    one, two = ready(world, "one", "two")
    world.node.switch(world.account, one)
    world.serve(world.account)
    victim = Path(world.gateway.storlets, world.other.scope)
    victim.mkdir()
    (victim / "precious").write_text("theirs")
    mine = Path(world.gateway.storlets, world.account.scope)
    left = mine / probe.new_name()
    left.symlink_to(f"../{world.other.scope}")
    pipes = Path(world.gateway.pipes, world.account.scope)
    (pipes / "deep").symlink_to(f"../../storlets/{world.other.scope}")
    world.node.switch(world.account, two)
    assert world.serve(world.account) == two
    assert [path.name for path in victim.iterdir()] == ["precious"]
    assert not left.is_symlink()


#: Part of a storlet: whatever it finds beside itself it makes anew, over and over.
PUT_BACK = """1"
import threading

def put_back(seen=set()):
    while True:
        seen.update(name for name in os.listdir("/var/lib/storlets") if "probe" in name)
        for number, name in enumerate(sorted(seen) * 5):
            try:
                os.makedirs(f"/var/lib/storlets/{name}/{number}", exist_ok=True)
            except OSError:
                pass
        time.sleep(0.0005)

threading.Thread(target=put_back, daemon=True).start()
code = "1"""


def test_storlet_that_puts_the_probe_back_stops_no_switch(world: storlet_node.NodeWorld) -> None:
    one, two = ready(world, "one", "two")
    hostile = world.order(module="cstest_hostile", code=PUT_BACK)
    assert storlet_client.ask(world.url, hostile)["error"] is None
    for image_id in (one, two, one):
        world.node.switch(world.account, image_id)
        assert world.serve(world.account) == image_id
    assert probes(world), "the storlet puts nothing back"
    for each in world.engine.list({"managed_by": "storlets"}):
        world.engine.remove(each.id)
    world.node.switch(world.account, two)
    assert not probes(world)


def probes(world: storlet_node.NodeWorld) -> list[str]:
    """Return which probes' directories are there."""
    directory = Path(world.gateway.storlets, world.account.scope)
    return [path.name for path in directory.iterdir() if path.name.endswith(".Probe")]


def test_pipe_that_is_a_link_is_not_followed(world: storlet_node.NodeWorld) -> None:
    """A tenant's sandbox may make its pipe a link to another account's."""
    one, two = ready(world, "one", "two")
    world.node.switch(world.account, one)
    node_contract.stage(world, world.image("one"), account=world.other)
    world.node.switch(world.other, one)
    pipes = Path(world.gateway.pipes, world.account.scope)
    (pipes / "factory_pipe").unlink()
    (pipes / "factory_pipe").symlink_to(f"../{world.other.scope}/factory_pipe")
    world.node.switch(world.account, two)
    assert world.node.state(world.other).healthy
    assert world.serve(world.account) == two


def test_accounts_of_one_node_don_t_see_each_other(world: storlet_node.NodeWorld) -> None:
    one, two = ready(world, "one", "two")
    node_contract.stage(world, world.image("two"), account=world.other)
    world.node.switch(world.account, one)
    world.node.switch(world.other, two)
    assert world.node.state(world.account).running == one
    world.node.clear(world.other)
    kept = frozenset({one, two})
    assert world.node.state(world.account) == nodes.NodeState(one, one, kept, True)


@pytest.mark.parametrize("missing", ["pipes", "storlets"])
def test_missing_directory_stands_against_a_deployment(
    world: storlet_node.NodeWorld, missing: str
) -> None:
    shutil.rmtree(getattr(world.gateway, missing))
    with pytest.raises(exceptions.HostNotReady, match=getattr(world.gateway, missing)):
        world.node.check()
    Path(getattr(world.gateway, missing)).mkdir()


def test_missing_image_stands_against_a_deployment(world: storlet_node.NodeWorld) -> None:
    world.images.remove(storlet_node.DEFAULT)
    with pytest.raises(exceptions.HostNotReady, match="default image"):
        world.node.check()


def test_gateway_that_starts_a_sandbox_meanwhile_is_no_harm(
    world: storlet_node.NodeWorld,
) -> None:
    one, two = ready(world, "one", "two")
    for image_id in (one, two):
        # None runs, and so the first request and the switch start theirs at the same time.
        for each in world.engine.list({"managed_by": "storlets"}):
            world.engine.remove(each.id)
        switch = threading.Thread(target=world.node.switch, args=(world.account, image_id))
        switch.start()
        time.sleep(1)
        answer = storlet_client.ask(world.url, world.order())
        switch.join()
        assert answer["error"] is None
        assert world.node.state(world.account).running == image_id
        assert world.serve(world.account) == image_id


def await_daemons(world: storlet_node.NodeWorld, count: int) -> None:
    """Wait until that many processes work on storlets."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for each in world.engine.list({"managed_by": "storlets"}):
            lines = world.engine.processes(each.id)
            if sum("storlets.agent.daemon cstest" in line for line in lines) >= count:
                return
        time.sleep(0.1)
    raise AssertionError("no storlet runs")


def test_sandbox_of_ours_is_the_gateways(world: storlet_node.NodeWorld) -> None:
    [new] = ready(world, "new")
    world.images.tag(new, world.account.image)
    world.serve(world.account)
    theirs = seen(world)
    world.engine.remove(world.account.sandbox)
    world.node.switch(world.account, new)
    ours = seen(world)
    assert set(ours.pop("inside")) ^ set(theirs.pop("inside")) == set()
    assert ours == theirs


def seen(world: storlet_node.NodeWorld) -> dict[str, Any]:
    """Return what a storlet finds in the account's sandbox, and what the engine says of it."""
    [sandbox] = world.engine.list({"managed_by": "storlets"})
    with world.engine.connection.use() as client:
        made = client.inspect_container(sandbox.id)
    config, host = made["Config"], made["HostConfig"]
    program = """
import os
status = [line for line in open("/proc/1/status") if line.startswith(("Cap", "NoNew", "Seccomp"))]
mounts = sorted(line.split()[4] for line in open("/proc/self/mountinfo"))
variables = sorted(each for each in os.environ.items() if "CONTAINER_STACK" not in each[0])
print(*status, *mounts, *variables, *os.listdir("/sys/class/net"), os.getcwd(), sep="\\n")
"""
    result = world.engine.exec(sandbox.id, ["python3", "-c", program])
    assert result.exit_code == 0, result.stderr
    inside = result.stdout.decode().replace(config["Hostname"], "HOST")
    limits = (
        "Memory",
        "MemorySwap",
        "CpuPeriod",
        "CpuQuota",
        "PidsLimit",
        "ShmSize",
        "OomKillDisable",
    )
    return {
        **{name: config[name] for name in ("Cmd", "Entrypoint", "Env", "User", "StopSignal")},
        **{name: host[name] for name in (*limits, "AutoRemove", "Privileged", "ReadonlyRootfs")},
        "name": sandbox.name,
        "managed_by": sandbox.labels["managed_by"],
        "inside": inside.splitlines(),
    }


#: A module that only some images have; the storlet of a test needs it.
LIBRARY = {"usr/lib/python3/dist-packages/cstest_library.py": ""}


def test_image_without_what_a_running_storlet_needs_is_refused_unless_it_was_there_before(
    world: storlet_node.NodeWorld,
) -> None:
    plain, fresh = ready(world, "plain", "fresh")
    rich = world.image("rich", LIBRARY)
    node_contract.stage(world, rich)
    for image_id in (plain, rich.image_id):
        world.node.switch(world.account, image_id)
    needy = world.order(module="cstest_needy", code='2"; import cstest_library; "')
    assert storlet_client.ask(world.url, needy)["error"] is None
    with load(world, 1) as results, pytest.raises(exceptions.ProbeFailed, match="cstest_needy"):
        world.node.switch(world.account, fresh)
    assert errors(results) == []
    assert world.node.state(world.account).running == rich.image_id
    world.node.switch(world.account, plain)
    assert world.serve(world.account) == plain
