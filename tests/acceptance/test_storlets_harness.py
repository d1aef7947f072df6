# SPDX-License-Identifier: Apache-2.0
"""What tests of storlets stand on: Swift with storlets, and images that were tagged by hand."""

from collections.abc import Callable

import pytest
import requests

from . import process, storlet_sources, storlet_world, swift

DATA = b"hemp, tar and canvas\n" * 500


@pytest.fixture(scope="module")
def url(cloud: storlet_world.World) -> str:
    """The URL of an account in which storlets may run, with something to read."""
    url = cloud.swift.url(swift.STRANGER.account)
    session = cloud.session(swift.STRANGER)
    enabled = session.post(url, headers={"X-Account-Meta-Storlet-Enabled": "True"})
    enabled.raise_for_status()
    for name in ("storlet", "dependency", "log", "hold"):
        session.put(f"{url}/{name}").raise_for_status()
    storlet_sources.put_storlets(session, url)
    session.put(f"{url}/hold/rope", data=DATA).raise_for_status()
    return url


@pytest.fixture(scope="module")
def image(cloud: storlet_world.World, url: str) -> str:
    """The ID of an image that every node runs for the account; it is made on each."""
    context = storlet_sources.write_context(
        cloud.directory / "harness", "cstest-storlet-base:latest", "BLUE"
    )
    first, *others = cloud.nodes
    with first.engine() as client:
        made, _log = client.images.build(
            path=str(context),
            tag=f"{swift.STRANGER.project[:13]}:latest",
            network_mode="none",
            rm=True,
        )
        archive = b"".join(made.save(named=True))
    for node in others:
        with node.engine() as client:
            client.images.load(archive)
    return str(made.id)


def test_every_node_runs_the_accounts_image_within_limits(
    cloud: storlet_world.World, url: str, image: str
) -> None:
    session = cloud.session(swift.STRANGER)
    nodes = set()
    while len(nodes) < storlet_world.COUNT:
        answer = _answer(lambda: session.get(f"{url}/hold/rope", headers=storlet_sources.RUN))
        assert answer.content == storlet_sources.painted(DATA, "BLUE")
        nodes.add(storlet_sources.words(answer.headers)["Node"])

    for node in cloud.nodes:
        [sandbox] = [each for each in node.containers() if each["Image"] == image]
        limits = sandbox["HostConfig"]
        assert limits["Memory"] == storlet_world.MEMORY
        assert limits["PidsLimit"] == storlet_world.PIDS
        assert (limits["CpuPeriod"], limits["CpuQuota"]) == (
            storlet_world.PERIOD,
            storlet_world.QUOTA,
        )


def test_what_is_put_through_a_storlet_runs_on_the_proxys_node(
    cloud: storlet_world.World, url: str, image: str
) -> None:
    session = cloud.session(swift.STRANGER)

    _answer(lambda: session.put(f"{url}/hold/sail", data=DATA, headers=storlet_sources.RUN))

    stored = session.get(f"{url}/hold/sail")
    assert stored.content == storlet_sources.painted(DATA, "BLUE")
    assert storlet_sources.words(stored.headers) == {"Color": "BLUE", "Node": "node-1"}


def _answer(ask: Callable[[], requests.Response]) -> requests.Response:
    """Return the first good answer: a busy node's sandbox may start too late for the runtime."""
    last = "none"

    def answer() -> requests.Response | None:
        nonlocal last
        found = ask()
        last = f"{found.status_code} {found.text[:500]}"
        return found if found.ok else None

    try:
        return process.wait_for("a good answer", answer, timeout=300)
    except AssertionError as exc:
        raise AssertionError(f"{exc}\nThe last answer: {last}") from exc
