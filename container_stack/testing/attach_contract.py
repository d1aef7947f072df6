# SPDX-License-Identifier: Apache-2.0
"""The contract suite of :class:`container_stack.host.attach.Attacher`.

An attacher joins with one fixture, a :class:`.attach_world.World`::

    class TestMine(attach_contract.AttachContract):
        @pytest.fixture
        def world(self, tmp_path):
            with MyWorld(tmp_path) as world:
                yield world

What the world doesn't claim in its capabilities is skipped.
"""

import concurrent.futures
import dataclasses
import logging
import random
import threading
import traceback

import pytest

from container_stack import exceptions
from container_stack.host import attach
from container_stack.testing import attach_portals, attach_world
from container_stack.testing.attach_world import MIB, World

#: No multiple of anything but 512.
SIZE = 41 * MIB + 512
CHAP = attach.Chap("image-store", "a-secret-of-ours")
MUTUAL = attach.Chap("image-store", "a-secret-of-ours", "the-array", "a-secret-of-its")


class AttachContract(attach_portals.PortalContract):
    """What every attacher must do."""

    def test_new_volume_has_its_size_and_is_zero(self, world: World) -> None:
        with world.attacher().attach(world.make("one", SIZE)) as device:
            assert device.size == device.refresh() == SIZE
            assert not device.read(0, 4096).strip(b"\0")
            assert device.read(SIZE - 700, 700) == bytes(700)

    def test_bytes_at_any_place_change_and_those_around_them_stay(self, world: World) -> None:
        with world.attacher().attach(world.make("one", SIZE)) as device:
            expected = bytearray(random.Random(1).randbytes(3 * MIB))
            device.write(0, expected)
            for offset, length in (
                (0, 1),
                (511, 2),
                (513, 510),
                (1024, 512),
                (4095, 4098),
                (70_001, 1),
                (99_999, 1_048_583),
                (2 * MIB - 1, MIB),
            ):
                new = random.Random(offset).randbytes(length)
                device.write(offset, new)
                expected[offset : offset + length] = new
                around = max(0, offset - 600)
                end = min(len(expected), offset + length + 600)
                assert device.read(around, end - around) == expected[around:end]
                assert device.read(offset, length) == new
            assert device.read(0, len(expected)) == expected

    def test_last_bytes_can_be_written_and_nothing_behind_them(self, world: World) -> None:
        with world.attacher().attach(world.make("one", SIZE)) as device:
            device.write(SIZE - 3, b"end")
            for action in (
                lambda: device.write(SIZE - 3, b"long"),
                lambda: device.write(SIZE, b"x"),
                lambda: device.write(-1, b"x"),
                lambda: device.read(SIZE - 1, 2),
                lambda: device.read(-1, 1),
                lambda: device.read(0, -1),
            ):
                with pytest.raises(exceptions.InvalidRequest):
                    action()
            assert device.read(SIZE - 4, 4) == b"\0end"

    def test_nothing_can_be_read_and_written(self, world: World) -> None:
        with world.attacher().attach(world.make("one", SIZE)) as device:
            device.write(0, b"")
            device.write(SIZE, memoryview(b""))
            assert device.read(7, 0) == device.read(SIZE, 0) == b""

    def test_every_kind_of_buffer_is_written(self, world: World) -> None:
        with world.attacher().attach(world.make("one", SIZE)) as device:
            data = bytes(range(256)) * 8
            buffers: list[attach.Buffer] = [
                data,
                bytearray(data),
                memoryview(data),
                memoryview(bytearray(b"?" + data + b"?"))[1:-1],
                memoryview(bytearray(data)).cast("I"),
            ]
            for number, buffer in enumerate(buffers):
                device.write(number * 5000, buffer)
                assert device.read(number * 5000, len(data)) == data

    def test_much_is_written_at_once_and_read_by_others(self, world: World) -> None:
        target, attacher = world.make("one", SIZE), world.attacher()
        data = random.Random(2).randbytes(33 * MIB + 77)
        with attacher.attach(target) as device:
            device.write(1234, data)
            device.flush()
        with attacher.attach(target) as device:
            assert device.read(1234, len(data)) == data
            assert device.read(0, 1234) == bytes(1234)

    def test_neighbours_written_by_threads_do_not_undo_each_other(self, world: World) -> None:
        with world.attacher().attach(world.make("one", SIZE)) as device:
            ends = sorted(random.Random(3).sample(range(1, 20_000), 80))
            pieces = list(zip([0, *ends], [*ends, 20_000], strict=True))
            expected = random.Random(4).randbytes(20_000)

            def write(piece: tuple[int, int]) -> None:
                device.write(piece[0], expected[piece[0] : piece[1]])

            with concurrent.futures.ThreadPoolExecutor(8) as threads:
                list(threads.map(write, random.Random(5).sample(pieces, len(pieces))))
            assert device.read(0, 20_000) == expected

    def test_threads_share_a_device(self, world: World) -> None:
        with world.attacher().attach(world.make("one", SIZE)) as device:

            def work(number: int) -> None:
                data = random.Random(number).randbytes(2 * MIB + number)
                for _ in range(3):
                    device.write(number * 5 * MIB, data)
                    assert device.read(number * 5 * MIB, len(data)) == data
                    device.flush()

            with concurrent.futures.ThreadPoolExecutor(8) as threads:
                list(threads.map(work, range(8)))

    def test_attachments_of_one_target_do_not_disturb_each_other(self, world: World) -> None:
        target = world.make("one", SIZE)
        with world.attacher().attach(target) as one:
            with world.attacher().attach(target) as two:
                one.write(0, b"from one")
                one.flush()
                assert two.read(0, 8) == b"from one"
            one.write(0, b"still")
            assert one.read(0, 8) == b"still" + b"one"

    def test_targets_are_told_apart(self, world: World) -> None:
        attacher = world.attacher()
        targets = [world.make(name, SIZE) for name in ("one", "two")]
        for number, target in enumerate(targets):
            with attacher.attach(target) as device:
                device.write(0, bytes([number + 1]) * 1000)
        for number, target in enumerate(targets):
            with attacher.attach(target) as device:
                assert device.read(0, 1000) == bytes([number + 1]) * 1000

    def test_volume_that_is_only_to_be_read_is_not_written(self, world: World) -> None:
        target = world.make("one", SIZE)
        with world.attacher().attach(target, read_only=True) as device:
            with pytest.raises(exceptions.InvalidRequest):
                device.write(0, b"x")
            assert device.read(0, 1) == b"\0"

    def test_attached_volume_grows(self, world: World) -> None:
        target = world.make("one", SIZE)
        larger = SIZE + 3 * MIB
        with world.attacher().attach(target) as device:
            device.write(SIZE - 5, b"kept!")
            device.flush()
            world.grow(target, larger)
            assert device.refresh() == device.size == larger
            assert device.read(SIZE - 5, 10) == b"kept!" + bytes(5)
            device.write(larger - 3, b"end")
            assert device.read(larger - 3, 3) == b"end"

    def test_volume_grows_while_it_is_read(self, world: World) -> None:
        target = world.make("one", SIZE)
        with world.attacher().attach(target) as device:
            data = random.Random(6).randbytes(MIB)
            device.write(0, data)
            device.flush()
            stop = threading.Event()

            def read() -> int:
                count = 0
                while not stop.is_set():
                    assert device.read(0, MIB) == data
                    count += 1
                return count

            with concurrent.futures.ThreadPoolExecutor(1) as threads:
                reads = threads.submit(read)
                try:
                    for more in (1, 2, 3):
                        world.grow(target, SIZE + more * MIB)
                        assert device.refresh() == SIZE + more * MIB
                finally:
                    stop.set()
                assert reads.result(60)

    def test_target_that_does_not_exist_is_not_found(self, world: World) -> None:
        with pytest.raises(exceptions.NotFound):
            world.attacher().attach(world.missing())

    def test_closed_device_refuses_and_closing_again_changes_nothing(self, world: World) -> None:
        device = world.attacher().attach(world.make("one", SIZE))
        device.close()
        device.close()
        for action in (
            lambda: device.read(0, 1),
            lambda: device.write(0, b"x"),
            device.flush,
            device.refresh,
        ):
            with pytest.raises(exceptions.InvalidRequest):
                action()

    def test_host_is_checked_and_named(self, world: World) -> None:
        attacher = world.attacher()
        assert all(attacher.check().values())
        assert attacher.initiator.startswith(("iqn.", "eui.", "naa."))
        assert world.attacher().initiator == attacher.initiator

    def test_only_who_is_admitted_gets_in(self, world: World) -> None:
        world.need(attach_world.ACCESS)
        target = world.make("one", SIZE)
        one, two = (world.attacher(initiator=f"iqn.2026-11.test:{n}") for n in ("one", "two"))
        world.admit(target, (one.initiator,))
        one.attach(target).close()
        # Some targets, such as tgt, tell a stranger that the name doesn't exist.
        with pytest.raises((exceptions.AccessDenied, exceptions.NotFound)):
            two.attach(target)
        world.admit(target, (one.initiator, two.initiator))
        two.attach(target).close()

    def test_secret_opens_the_door(self, world: World) -> None:
        world.need(attach_world.CHAP)
        target = world.make("one", SIZE, chap=CHAP)
        with world.attacher().attach(target) as device:
            device.write(0, b"in")
            assert device.read(0, 2) == b"in"

    def test_wrong_secret_is_refused_and_not_told(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        world.need(attach_world.CHAP)
        caplog.set_level(logging.DEBUG)
        target = world.make("one", SIZE, chap=CHAP)
        wrong = dataclasses.replace(CHAP, secret="an-unusual-guess")
        for chap in (wrong, None):
            with pytest.raises(exceptions.AccessDenied) as refusal:
                world.attacher().attach(dataclasses.replace(target, chap=chap))
            assert "unusual" not in "".join(traceback.format_exception(refusal.value))
        assert "unusual" not in caplog.text

    def test_target_proves_who_it_is(self, world: World) -> None:
        world.need(attach_world.MUTUAL_CHAP)
        target = world.make("one", SIZE, chap=MUTUAL)
        world.attacher().attach(target).close()
        wrong = dataclasses.replace(MUTUAL, mutual_secret="not-the-arrays")
        with pytest.raises(exceptions.AccessDenied):
            world.attacher().attach(dataclasses.replace(target, chap=wrong))
