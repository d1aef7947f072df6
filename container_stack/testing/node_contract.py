# SPDX-License-Identifier: Apache-2.0
"""The contract suite of :class:`container_stack.storlets.nodes.Node`.

A node joins with one fixture, which yields a :class:`World` and sees that nothing of it is left::

    class TestMine(node_contract.NodeContract):
        @pytest.fixture
        def world(self):
            yield MyWorld(...)
"""

from collections.abc import Iterator
from typing import Protocol

import pytest

from container_stack import exceptions
from container_stack.storlets import model, nodes
from container_stack.storlets.deployment import versions


class World(Protocol):
    """A node under test, on which nobody has an image yet.

    :param account: an account of the tests.
    :param other: another one.
    """

    account: model.Account
    other: model.Account
    node: nodes.Node

    def again(self) -> nodes.Node:
        """Return the same node as a process sees it that has just started."""

    def image(self, name: str) -> versions.Image:
        """Return an image that works, on a base that all of them share; the same for a name."""

    def broken(self) -> versions.Image:
        """Return an image on that base which doesn't pass the probe."""

    def serve(self, account: model.Account) -> str:
        """Let a client run a storlet, and return the ID of the image that it ran in.

        Starts a sandbox where none runs, as the gateway does.
        """

    def holds(self, image_id: str) -> bool:
        """Return whether the node has that image at all."""


class NodeContract:
    """What every node must do."""

    @pytest.fixture
    def world(self) -> Iterator[World]:
        """Yield the node under test."""
        raise NotImplementedError("supply a fixture `world`: see NodeContract")

    def test_nothing_stands_against_a_deployment(self, world: World) -> None:
        world.node.check()
        assert world.node.name

    def test_account_without_an_image_has_the_default_one(self, world: World) -> None:
        assert world.node.state(world.account) == nodes.NodeState(None, None, frozenset(), None)
        assert world.serve(world.account) != world.image("a").image_id
        assert world.node.state(world.account).image_id is None

    def test_staged_image_is_kept_and_requests_go_on_as_before(self, world: World) -> None:
        before = world.serve(world.account)
        sent = stage(world, world.image("a"))
        assert sent > 0
        state = world.node.state(world.account)
        assert state.kept == {world.image("a").image_id}
        assert state.image_id is None
        assert world.serve(world.account) == before
        assert world.node.state(world.other).kept == frozenset()

    def test_second_staging_sends_nothing(self, world: World) -> None:
        stage(world, world.image("a"))
        assert world.node.stage(*_order(world, world.image("a")), _unwanted) == 0
        assert world.again().stage(*_order(world, world.image("a")), _unwanted) == 0
        assert world.node.state(world.account).kept == {world.image("a").image_id}

    def test_layers_that_are_there_are_not_sent(self, world: World) -> None:
        one, two = world.image("a"), world.image("b")
        stage(world, one)
        shared = world.node.shared_layers(diff_ids(two))
        assert 0 < shared < len(two.layers)
        assert shared == common(one, two)
        assert world.node.shared_layers(diff_ids(one)) == len(one.layers)
        asked: list[int] = []
        sent = stage(world, two, asked=asked)
        assert asked == [shared]
        assert sent == sum(map(len, two.stream(shared)))
        assert world.node.shared_layers(["sha256:" + "0" * 64]) == 0

    def test_all_is_sent_where_less_was_not_enough(self, world: World) -> None:
        stage(world, world.image("a"))
        two, asked = world.image("b"), []

        def archive(skip: int) -> Iterator[bytes]:
            asked.append(skip)
            return two.stream(len(two.layers) if skip else 0)

        world.node.stage(*_order(world, two), archive)
        assert asked == [common(world.image("a"), two), 0]
        world.node.switch(world.account, two.image_id)
        assert world.serve(world.account) == two.image_id

    def test_another_image_than_was_promised_is_refused_and_removed(self, world: World) -> None:
        one, two = world.image("a"), world.image("b")
        with pytest.raises(exceptions.InvalidRequest):
            world.node.stage(*_order(world, one), two.stream)
        assert not world.holds(one.image_id)
        assert not world.holds(two.image_id)
        assert world.node.state(world.account).kept == frozenset()

    def test_another_image_that_was_there_before_stays(self, world: World) -> None:
        one, two = world.image("a"), world.image("b")
        stage(world, two)
        world.node.switch(world.account, two.image_id)
        with pytest.raises(exceptions.InvalidRequest):
            world.node.stage(*_order(world, one), two.stream)
        assert world.serve(world.account) == two.image_id
        assert world.node.state(world.account).kept == {two.image_id}

    @pytest.mark.parametrize("damage", [b"", b"no archive at all" * 64])
    def test_what_is_no_image_is_refused(self, world: World, damage: bytes) -> None:
        with pytest.raises(exceptions.InvalidRequest):
            world.node.stage(*_order(world, world.image("a")), lambda _skip: iter([damage]))
        assert world.node.state(world.account).kept == frozenset()

    def test_archive_that_breaks_off_leaves_nothing(self, world: World) -> None:
        def archive(skip: int) -> Iterator[bytes]:
            yield next(world.image("a").stream(skip))
            raise exceptions.ServiceUnavailable("Swift is gone.")

        with pytest.raises(exceptions.ServiceUnavailable):
            world.node.stage(*_order(world, world.image("a")), archive)
        assert not world.holds(world.image("a").image_id)
        stage(world, world.image("a"))

    def test_switched_account_runs_in_the_new_image_at_once(self, world: World) -> None:
        new = world.image("a").image_id
        world.serve(world.account)
        stage(world, world.image("a"))
        world.node.switch(world.account, new)
        assert world.node.state(world.account) == nodes.NodeState(new, new, frozenset({new}), True)
        assert world.again().state(world.account) == nodes.NodeState(
            new, new, frozenset({new}), True
        )
        assert world.serve(world.account) == new
        assert world.serve(world.other) != new

    def test_switch_starts_a_sandbox_where_none_ran(self, world: World) -> None:
        stage(world, world.image("a"))
        world.node.switch(world.account, world.image("a").image_id)
        assert world.node.state(world.account).running == world.image("a").image_id
        assert world.serve(world.account) == world.image("a").image_id

    def test_switch_goes_there_and_back_and_may_be_repeated(self, world: World) -> None:
        one, two = world.image("a"), world.image("b")
        for image in (one, two):
            stage(world, image)
        for image in (one, two, two, one):
            world.node.switch(world.account, image.image_id)
            assert world.serve(world.account) == image.image_id
        state = world.node.state(world.account)
        assert state.kept == {one.image_id, two.image_id}
        assert (state.image_id, state.running, state.healthy) == (one.image_id, one.image_id, True)

    def test_image_that_is_not_staged_is_not_switched_to(self, world: World) -> None:
        stage(world, world.image("a"))
        world.node.switch(world.account, world.image("a").image_id)
        before = world.node.state(world.account)
        with pytest.raises(exceptions.ContainerStackError):
            world.node.switch(world.account, world.image("b").image_id)
        assert world.node.state(world.account) == before

    def test_failed_probe_leaves_all_as_it_was(self, world: World) -> None:
        one, bad = world.image("a"), world.broken()
        stage(world, bad)
        before = world.serve(world.account)
        with pytest.raises(exceptions.ProbeFailed):
            world.node.switch(world.account, bad.image_id)
        assert world.node.state(world.account).image_id is None
        assert world.serve(world.account) == before
        stage(world, one)
        world.node.switch(world.account, one.image_id)
        state = world.node.state(world.account)
        with pytest.raises(exceptions.ProbeFailed):
            world.node.switch(world.account, bad.image_id)
        assert world.node.state(world.account) == state
        assert world.serve(world.account) == one.image_id

    def test_cleared_account_runs_in_the_default_image(self, world: World) -> None:
        default, new = world.serve(world.account), world.image("a").image_id
        world.node.clear(world.account)
        stage(world, world.image("a"))
        world.node.switch(world.account, new)
        for _again in range(2):
            world.node.clear(world.account)
            assert world.node.state(world.account).image_id is None
            assert world.node.state(world.account).kept == {new}
            assert world.serve(world.account) == default
        world.node.switch(world.account, new)
        assert world.serve(world.account) == new

    def test_forgotten_image_is_gone(self, world: World) -> None:
        one = world.image("a").image_id
        stage(world, world.image("a"))
        for _again in range(2):
            world.node.forget(world.account, one)
            assert world.node.state(world.account).kept == frozenset()
            assert not world.holds(one)

    def test_current_image_is_not_forgotten(self, world: World) -> None:
        one, two = world.image("a"), world.image("b")
        for image in (one, two):
            stage(world, image)
            world.node.switch(world.account, image.image_id)
        with pytest.raises(exceptions.Busy):
            world.node.forget(world.account, two.image_id)
        world.node.forget(world.account, one.image_id)
        assert world.node.state(world.account).kept == {two.image_id}
        assert world.serve(world.account) == two.image_id

    def test_image_of_another_account_stays_when_ours_is_forgotten(self, world: World) -> None:
        one = world.image("a")
        stage(world, one)
        stage(world, one, account=world.other)
        world.node.forget(world.account, one.image_id)
        world.node.switch(world.other, one.image_id)
        assert world.serve(world.other) == one.image_id
        assert world.node.state(world.account).kept == frozenset()

    def test_sweeping_what_was_not_killed_changes_nothing(self, world: World) -> None:
        world.node.sweep(world.account)
        stage(world, world.image("a"))
        world.node.switch(world.account, world.image("a").image_id)
        before = world.node.state(world.account)
        world.node.sweep(world.account)
        assert world.node.state(world.account) == before
        assert world.serve(world.account) == world.image("a").image_id


def stage(
    world: World,
    image: versions.Image,
    *,
    account: model.Account | None = None,
    asked: list[int] | None = None,
) -> int:
    """Stage an image, and note how many layers the node wanted left out."""

    def archive(skip: int) -> Iterator[bytes]:
        if asked is not None:
            asked.append(skip)
        return image.stream(skip)

    return world.node.stage(account or world.account, image.image_id, diff_ids(image), archive)


def diff_ids(image: versions.Image) -> tuple[str, ...]:
    """Return an image's layers as a node wants them."""
    return tuple(layer.diff_id for layer in image.layers)


def common(one: versions.Image, other: versions.Image) -> int:
    """Return how many layers two images share."""
    count = 0
    for mine, its in zip(diff_ids(one), diff_ids(other), strict=False):
        if mine != its:
            break
        count += 1
    return count


def _order(world: World, image: versions.Image) -> tuple[model.Account, str, tuple[str, ...]]:
    return world.account, image.image_id, diff_ids(image)


def _unwanted(_skip: int) -> Iterator[bytes]:
    raise AssertionError("the archive isn't needed")
