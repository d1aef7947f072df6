# SPDX-License-Identifier: Apache-2.0
"""libiscsi at targets that are busy, full, silent, broken or hostile."""

import contextlib
import os
import pathlib
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from container_stack import exceptions
from container_stack.host import attach
from container_stack.testing.attach_world import MIB

from . import portal, tgt_world

READ, WRITE, FLUSH = 0x88, 0x8A, 0x35
BUSY, CONFLICT, FULL, ABORTED = 0x08, 0x18, 0x28, 0x40
CHECK = 0x02

#: What a target may say that passes: status, sense key, additional sense code.
PASSING = {
    "busy": (BUSY, 0, 0),
    "queue full": (FULL, 0, 0),
    "aborted": (ABORTED, 0, 0),
    "reset": (CHECK, 0x06, 0x2900),
    "grown": (CHECK, 0x06, 0x2A09),
    "parity": (CHECK, 0x0B, 0x4700),
    "becoming ready": (CHECK, 0x02, 0x0401),
    "vanished for a moment": (CHECK, 0x05, 0x2500),
}


@pytest.fixture
def world(tmp_path: pathlib.Path) -> Iterator[tgt_world.Meddled]:
    with tgt_world.Meddled(tmp_path) as world:
        yield world


class Forger:
    """Answers for a target, some times.

    :param opcode: of the commands it answers.
    """

    def __init__(self, opcode: int, times: int, status: int, key: int = 0, code: int = 0) -> None:
        self._opcode = opcode
        self._answer = status, key, code
        self.times = times

    def __call__(self, opcode: int, pdu: bytes) -> bytes | None:
        # Data are followed by an answer that forges itself when it comes.
        if opcode != self._opcode or not self.times:
            return pdu
        if pdu[0] & 0x3F == 0x25 and not pdu[1] & 0x01:
            return None
        self.times -= 1
        return portal.failure(pdu, *self._answer)


@pytest.mark.parametrize("trouble", PASSING)
def test_passing_trouble_is_not_noticed(world: tgt_world.Meddled, trouble: str) -> None:
    data = os.urandom(3 * MIB)
    with world.attacher().attach(world.make("one", 8 * MIB)) as device:
        for opcode, action in (
            (WRITE, lambda: device.write(512, data)),
            (READ, lambda: device.read(512, len(data)) == data),
            (FLUSH, device.flush),
        ):
            forger = Forger(opcode, 5 if opcode != FLUSH else 3, *PASSING[trouble])
            world.meddle(forger)
            assert action() in (None, True)
            assert not forger.times


@pytest.mark.parametrize("trouble", PASSING)
def test_lasting_trouble_is_told_in_time(world: tgt_world.Meddled, trouble: str) -> None:
    with world.attacher(timeout=3.0).attach(world.make("one", MIB)) as device:
        world.meddle(Forger(READ, 10**6, *PASSING[trouble]))
        began = time.monotonic()
        with pytest.raises((exceptions.ArrayUnavailable, exceptions.NotFound)):
            device.read(0, 512)
        assert time.monotonic() - began < 5
        world.meddle(None)
        assert device.read(0, 512) == bytes(512)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((CHECK, 0x07, 0x2707), exceptions.NoSpace),
        ((CHECK, 0x07, 0x2700), exceptions.InvalidRequest),
        ((CHECK, 0x05, 0x2100), exceptions.InvalidRequest),
        ((CHECK, 0x03, 0x0C00), exceptions.ArrayUnavailable),
        ((CHECK, 0x04, 0x4400), exceptions.ArrayUnavailable),
        ((CHECK, 0x02, 0x3A00), exceptions.ArrayUnavailable),
        ((CHECK, 0x02, 0x0403), exceptions.ArrayUnavailable),
        ((CONFLICT, 0, 0), exceptions.Busy),
    ],
)
def test_answer_becomes_an_error_of_ours_and_the_device_goes_on(
    world: tgt_world.Meddled, answer: tuple[int, int, int], error: type[Exception]
) -> None:
    with world.attacher().attach(world.make("one", 8 * MIB)) as device:
        world.meddle(Forger(WRITE, 3, *answer))
        began = time.monotonic()
        with pytest.raises(error) as refusal:
            device.write(0, bytes(4 * MIB))
        assert time.monotonic() - began < 5
        assert str(refusal.value).endswith(".")
        world.meddle(None)
        device.write(0, b"on")
        assert device.read(0, 2) == b"on"


def test_target_without_a_cache_needs_no_flush(world: tgt_world.Meddled) -> None:
    with world.attacher().attach(world.make("one", MIB)) as device:
        world.meddle(Forger(FLUSH, 1, CHECK, 0x05, 0x2000))
        device.flush()
        world.meddle(Forger(FLUSH, 1, CHECK, 0x03, 0x0C00))
        with pytest.raises(exceptions.ArrayUnavailable):
            device.flush()


def test_refusal_that_comes_before_the_data_were_sent_is_survived(
    world: tgt_world.Meddled,
) -> None:
    def refuse(pdu: bytes) -> bytes | None:
        return portal.refusal(pdu, CHECK, 0x07, 0x2707) if pdu[32] == WRITE else None

    target = world.make("one", 40 * MIB)
    with world.attacher().attach(target) as device:
        for _ in range(5):
            for each in world.portals:
                each.preempt = refuse
            with pytest.raises(exceptions.NoSpace):
                device.write(0, bytes(32 * MIB))
            for number, each in enumerate(world.portals):
                each.preempt = None
                # The target misses the commands that it never saw.
                world.lose_portal(number)
                world.regain_portal(number)
            device.write(0, b"on")
            assert device.read(0, 2) == b"on"


def test_answer_with_fewer_bytes_than_asked_for_is_no_answer(world: tgt_world.Meddled) -> None:
    def swallow(opcode: int, pdu: bytes) -> bytes | None:
        if opcode != READ:
            return pdu
        header = bytearray(portal.failure(pdu, 0))
        header[1], header[44:48] = 0x82, (4096).to_bytes(4, "big")
        return bytes(header)

    with world.attacher().attach(world.make("one", MIB)) as device:
        world.meddle(swallow)
        with pytest.raises(exceptions.ArrayUnavailable):
            device.read(0, 8192)


@pytest.mark.parametrize("number", [0, 1])
def test_silent_portal_is_left_for_the_other(world: tgt_world.Meddled, number: int) -> None:
    target = world.make("one", 40 * MIB)
    data = os.urandom(8 * MIB)
    with world.attacher(timeout=6.0).attach(target) as device:
        if number:
            world.lose_portal(0)
            device.read(0, 1)
            world.regain_portal(0)
        world.portals[number].frozen = True
        began = time.monotonic()
        device.write(100, data)
        assert device.read(100, len(data)) == data
        assert time.monotonic() - began < 6
        world.portals[1 - number].frozen = True
        began = time.monotonic()
        with pytest.raises(exceptions.ArrayUnavailable):
            device.read(0, 512)
        with pytest.raises(exceptions.ArrayUnavailable):
            world.attacher(timeout=3.0).attach(target)
        device.close()
        assert time.monotonic() - began < 14


def test_portal_that_hangs_up_after_every_command_does_not_burn_the_processor(
    world: tgt_world.Meddled,
) -> None:
    def hang_up(_opcode: int, _pdu: bytes) -> bytes:
        raise OSError

    with world.attacher(timeout=4.0).attach(world.make("one", MIB)) as device:
        for each in world.portals:
            each.meddle = hang_up
            each.connections = 0
        began = time.process_time()
        with pytest.raises(exceptions.ArrayUnavailable):
            device.read(0, 512)
        assert sum(each.connections for each in world.portals) < 40
        assert time.process_time() - began < 3


class Impostor:
    """Listens like a portal, and does something else."""

    def __init__(self, behave: Callable[[socket.socket], None]) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.target = attach.Target(
            "iqn.2026-11.test:x", (f"127.0.0.1:{self._listener.getsockname()[1]}",)
        )
        self._behave = behave
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _address = self._listener.accept()
                threading.Thread(target=self._meet, args=(peer,), daemon=True).start()

    def _meet(self, peer: socket.socket) -> None:
        with contextlib.suppress(OSError), peer:
            self._behave(peer)

    def close(self) -> None:
        self._listener.close()


def _say_nothing(peer: socket.socket) -> None:
    while peer.recv(65536):
        pass


def _babble(peer: socket.socket) -> None:
    while True:
        peer.sendall(random.randbytes(4096))


def _send_zeros(peer: socket.socket) -> None:
    while True:
        peer.sendall(bytes(65536))


def _redirect_for_ever(peer: socket.socket) -> None:
    while request := peer.recv(65536):
        peer.sendall(_redirection(request, f"127.0.0.1:{peer.getsockname()[1]}"))


def _redirection(request: bytes, address: str) -> bytes:
    text = f"TargetAddress={address},1\0".encode()
    header = bytearray(48)
    header[0], header[1] = 0x23, 0x04
    header[4:8] = len(text).to_bytes(4, "big")
    header[16:20] = request[16:20]
    header[36:38] = b"\x01\x01"
    return bytes(header) + text + bytes(-len(text) % 4)


def _drip(peer: socket.socket) -> None:
    while True:
        peer.sendall(b"\x23")
        time.sleep(0.05)


@pytest.mark.parametrize("behave", [_say_nothing, _babble, _send_zeros, _redirect_for_ever, _drip])
def test_impostor_is_given_up_in_time(
    world: tgt_world.Meddled, behave: Callable[[socket.socket], None]
) -> None:
    impostor = Impostor(behave)
    began = time.monotonic()
    with pytest.raises(exceptions.ArrayUnavailable):
        world.attacher(timeout=4.0).attach(impostor.target)
    assert time.monotonic() - began < 8
    impostor.close()
    real = world.make("one", MIB)
    with world.attacher().attach(real) as device:
        assert device.read(0, 1) == b"\0"


def test_redirected_login_follows_once(world: tgt_world.Meddled) -> None:
    real = world.make("one", MIB)

    def send_away(peer: socket.socket) -> None:
        peer.sendall(_redirection(peer.recv(65536), world.portals[0].address))
        peer.recv(1)

    impostor = Impostor(send_away)
    target = attach.Target(real.iqn, impostor.target.portals)
    with world.attacher().attach(target) as device:
        device.write(0, b"there")
        assert device.read(0, 5) == b"there"
    impostor.close()


def test_bits_that_flip_on_their_way_break_no_process(world: tgt_world.Meddled) -> None:
    target = world.make("one", MIB)
    flips = random.Random(7)

    def flip(_opcode: int, pdu: bytes) -> bytes:
        if flips.random() > 0.15:
            return pdu
        broken = bytearray(pdu)
        for _ in range(flips.randint(1, 4)):
            at = flips.choice([*range(4), *range(8, min(48, len(pdu)))])
            broken[at] ^= 1 << flips.randrange(8)
        return bytes(broken)

    world.meddle(flip)
    script = f"""
import faulthandler, random, time
from container_stack import exceptions
from container_stack.host import attach, attach_libiscsi
faulthandler.enable()
attacher = attach_libiscsi.LibiscsiAttacher.open(attach.Options(timeout=2.0))
target = attach.Target({target.iqn!r}, {target.portals!r})
end, done = time.monotonic() + 8, 0
while time.monotonic() < end:
    try:
        with attacher.attach(target) as device:
            for number in range(20):
                device.write(number * 100, bytes(70_000))
                device.read(number * 100, 90_000)
                device.flush()
                done += 1
    except exceptions.ContainerStackError:
        pass
print("survived" if done else "did nothing")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stdout[:8]) == (0, "survived"), done.stderr[-3000:]
