# SPDX-License-Identifier: Apache-2.0
"""The stream to the engine when pieces come at awkward times, which a real engine seldom does."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from container_stack import exceptions
from container_stack.host import engine_wire

UPGRADED = b"HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\n"


@contextlib.contextmanager
def wire_to(
    engine: Callable[[socket.socket], object], seconds: float = 5.0
) -> Iterator[engine_wire.Wire]:
    """A connection to a function that plays the engine and then closes."""
    ours, theirs = socket.socketpair()

    def play() -> None:
        with theirs:
            engine(theirs)

    thread = threading.Thread(target=play)
    thread.start()
    line = engine_wire.Wire(ours, engine_wire.Plain(), time.monotonic() + seconds)
    with contextlib.closing(line):
        yield line
    thread.join()


def answering(*pieces: bytes) -> Callable[[socket.socket], None]:
    def play(sock: socket.socket) -> None:
        request = b""
        while not request.endswith(b"{}"):
            request += sock.recv(4096)
        for piece in pieces:
            sock.sendall(piece)
            time.sleep(0.01)

    return play


def test_output_that_comes_with_the_answers_head_is_kept() -> None:
    with wire_to(answering(UPGRADED + b"early")) as line:
        assert line.upgrade("/x", {}) == b"early"


def test_head_may_come_in_pieces() -> None:
    pieces = [UPGRADED[start : start + 5] for start in range(0, len(UPGRADED), 5)]
    with wire_to(answering(*pieces, b"later")) as line:
        early = line.upgrade("/x", {})
        assert early + b"".join(line.exchange(b"")) == b"later"


@pytest.mark.parametrize("cut", [10, 60, 80])
def test_refusal_is_told_whole(cut: int) -> None:
    body = b'{"message": "container is paused, unpause it"}'
    answer = b"HTTP/1.1 409 Conflict\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with (
        wire_to(answering(answer[:cut], answer[cut:])) as line,
        pytest.raises(exceptions.Busy, match="container is paused, unpause it"),
    ):
        line.upgrade("/x", {})


def test_engine_that_hangs_up_before_it_answers_is_lost() -> None:
    with wire_to(answering(b"HTTP/1.1 101 UP")) as line, pytest.raises(ConnectionResetError):
        line.upgrade("/x", {})


def test_output_is_complete_though_input_was_never_read() -> None:
    output = b"output" * 10_000

    def unwilling(sock: socket.socket) -> None:
        sock.recv(1)
        sock.sendall(output)

    with wire_to(unwilling) as line:
        assert b"".join(line.exchange(b"x" * 5_000_000, then_end=True)) == output


def test_deadline_holds_while_bytes_trickle_in() -> None:
    stop = threading.Event()

    def trickling(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while not stop.wait(0.01):
                sock.sendall(b".")

    started = time.monotonic()
    with wire_to(trickling, seconds=0.3) as line:
        with pytest.raises(engine_wire.Overran):
            list(line.exchange(b""))
        stop.set()
    assert 0.3 <= time.monotonic() - started < 10
