# SPDX-License-Identifier: Apache-2.0
"""Verifications that are killed, and images that do as they like."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Mapping

import pytest

from container_stack.host import containers, images
from container_stack.storlets.verification import report
from container_stack.testing import image_archives

from . import storlet_candidates
from . import storlet_host as host
from .storlet_host import storlet_base as storlet_base
from .storlet_host import storlet_host as storlet_host
from .storlet_verifier import ACCOUNT, OPTIONS, Build, Make, finding, leftovers, states
from .storlet_verifier import build as build
from .storlet_verifier import directory as directory
from .storlet_verifier import nothing_of_it_stays as nothing_of_it_stays
from .storlet_verifier import verifier as verifier

KILLED = """
import os, signal, sys
from container_stack.drivers import storlet_runtime
from container_stack.host import containers, images
from container_stack.storlets import gateway, model
from container_stack.storlets.verification import base, verify
path, directory, reference, where, *options = sys.argv[1:]
engine = containers.Engine(os.environ.get("DOCKER_HOST", containers.DEFAULT_URL))
every = images.Images(engine)
settings = gateway.Gateway.of(dict(each.split("=") for each in options))
def progress(what, done, total):
    if what == where:
        print("there", flush=True)
        signal.pause()
verify.Verifier(
    every, engine, storlet_runtime.GatewayRuntime(), settings, base.Base.of(every.find(reference)),
    directory=directory,
).verify(path, model.Account("AUTH_305f5f3d12834"), progress=progress)
"""


@pytest.mark.parametrize(
    "where", ["Reading layers", "Loading", "Running: sandbox", "Running: identity"]
)
def test_what_a_killed_verification_left_the_next_one_removes(
    where: str,
    verifier: Make,
    engine: containers.Engine,
    storlet_base: str,
    directory: str,
    build: Build,
) -> None:
    path = build({"seed": secrets.token_bytes(8)})
    options = [f"{key}={value}" for key, value in OPTIONS.items()]
    argv = [sys.executable, "-c", KILLED, path, directory, storlet_base, where, *options]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        # While it lives, nobody takes away what it made.
        assert verifier().verify(str(host.base_archive()), ACCOUNT).passed
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    [scope] = set(os.listdir(directory)) - {"lock"}
    assert (f"{scope}:latest" in leftovers(engine)) == where.startswith("Running")
    found = verifier().verify(str(path), ACCOUNT)
    assert found.passed, found
    assert os.listdir(directory) == ["lock"]
    assert images.Images(engine).find(found.image_id) is None


#: Binds the socket on which the agent would be pinged, and answers for ever.
ANSWERING = b"""
import os, socket
sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sock.bind("/mnt/channels/factory_pipe")
_data, fds, _flags, _address = socket.recv_fds(sock, 65536, 16)
while True:
    os.write(fds[0], b" " * 65536)
"""
#: What python3 of an image does instead of running the agent.
HOSTILE: Mapping[str, str] = {
    "ends": "exit 0",
    "sleeps and ignores signals": "trap '' TERM HUP INT; while :; do sleep 1; done",
    "forks": "f() { f | f & }; f; sleep 100",
    "fills a directory of the host's": "exec dd if=/dev/zero of=/mnt/channels/x bs=1M",
    "fills its own disk": "exec dd if=/dev/zero of=/x bs=1M",
    "prints": "exec yes xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "digs": "cd /mnt/channels; d=aaaaaaaaaaaaaaaaaaaaaa; while mkdir $d && cd $d; do :; done",
    "makes devices and links": "mknod /mnt/channels/d b 8 0; ln -s / /mnt/channels/l; exit 1",
    "answers without end": "exec /usr/bin/python3.11 /answering",
    "is no program": "",
}


@pytest.mark.parametrize("what", list(HOSTILE))
def test_image_that_does_as_it_likes_is_bounded(what: str, verifier: Make, build: Build) -> None:
    program = storlet_candidates.script(HOSTILE[what])
    if not HOSTILE[what]:
        program = image_archives.program(b"\x7fELF and nothing more")
    path = build({"usr/bin/python3": program, "answering": ANSWERING})
    options = {**OPTIONS, "restart_linux_container_timeout": "4"}
    found = verifier(options).verify(str(path), ACCOUNT)
    assert {n for n, state in states(found).items() if state is report.State.FAILED} == {9}, found
    assert finding(found, 9).cure
    assert found.seconds < 60


def test_image_whose_daemons_die_fails_the_identity(verifier: Make, build: Build) -> None:
    text = 'case "$*" in *daemon_factory*) exec /usr/bin/python3.11 "$@";; esac; exit 3'
    files = {"usr/bin/python3": storlet_candidates.script(text)}
    path = build(files)
    found = verifier().verify(str(path), ACCOUNT)
    assert {n for n, state in states(found).items() if state is report.State.FAILED} == {10}
    assert finding(found, 12).state is report.State.SKIPPED
