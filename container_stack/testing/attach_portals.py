# SPDX-License-Identifier: Apache-2.0
"""What attachers must do when portals of a target are lost; a part of :mod:`.attach_contract`."""

import concurrent.futures
import os
import threading
import time
from collections.abc import Callable

import pytest

from container_stack import exceptions
from container_stack.host import attach
from container_stack.testing import attach_world
from container_stack.testing.attach_world import MIB, World

SIZE = 23 * MIB + 512


class PortalContract:
    """Portals come and go, and a device stays."""

    def test_one_portal_is_enough(self, world: World) -> None:
        world.need(attach_world.PORTALS)
        target = world.make("one", SIZE)
        for lost in (0, 1):
            world.lose_portal(target, lost)
            with world.attacher().attach(target) as device:
                device.write(0, b"by the other")
                assert device.read(0, 12) == b"by the other"
            world.regain_portal(target, lost)

    def test_no_portal_is_told_in_time(self, world: World) -> None:
        world.need(attach_world.PORTALS)
        target = world.make("one", SIZE)
        with world.attacher(timeout=4.0).attach(target) as device:
            for number in (0, 1):
                world.lose_portal(target, number)
            for action in (
                lambda: device.read(0, 4096),
                lambda: device.write(0, bytes(4096)),
                lambda: world.attacher(timeout=4.0).attach(target),
            ):
                began = time.monotonic()
                with pytest.raises(exceptions.ArrayUnavailable):
                    action()
                assert time.monotonic() - began < 10
            began = time.monotonic()
            device.close()
            assert time.monotonic() - began < 10

    def test_device_recovers_when_its_portals_do(self, world: World) -> None:
        world.need(attach_world.PORTALS)
        target = world.make("one", SIZE)
        with world.attacher().attach(target) as device:
            for number in (0, 1):
                world.lose_portal(target, number)
            again = threading.Timer(2.0, world.regain_portal, (target, 1))
            again.start()
            device.write(0, b"after all")
            again.join()
            assert device.read(0, 9) == b"after all"

    @pytest.mark.parametrize("first", [0, 1])
    def test_write_goes_on_when_a_portal_is_lost_in_its_middle(
        self, world: World, first: int
    ) -> None:
        world.need(attach_world.PORTALS)
        target = world.make("one", SIZE)
        data = os.urandom(8 * MIB + 123)
        with world.attacher().attach(target) as device:
            with concurrent.futures.ThreadPoolExecutor(1) as threads:
                writes = threads.submit(_repeat, lambda n: device.write(n % 7, data), 2.5)
                _lose_in_turn(world, target, first)
                last = writes.result(120)
            device.flush()
            assert device.read(last % 7, len(data)) == data

    @pytest.mark.parametrize("first", [0, 1])
    def test_read_goes_on_when_a_portal_is_lost_in_its_middle(
        self, world: World, first: int
    ) -> None:
        world.need(attach_world.PORTALS)
        target = world.make("one", SIZE)
        data = os.urandom(8 * MIB + 123)
        with world.attacher().attach(target) as device:
            device.write(3, data)

            def read(_number: int) -> None:
                assert device.read(3, len(data)) == data

            with concurrent.futures.ThreadPoolExecutor(1) as threads:
                reads = threads.submit(_repeat, read, 2.5)
                _lose_in_turn(world, target, first)
                assert reads.result(120)


def _lose_in_turn(world: World, target: attach.Target, first: int) -> None:
    """Lose one portal, then the other once the first is back."""
    for number in (first, 1 - first):
        time.sleep(0.6)
        world.lose_portal(target, number)
        time.sleep(0.6)
        world.regain_portal(target, number)


def _repeat(action: Callable[[int], None], seconds: float) -> int:
    """Do something over and over, with a number that counts, and return the last number."""
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        number += 1
        action(number)
    return number
