# SPDX-License-Identifier: Apache-2.0
"""Checks 9, 10 and 12: what an image does when storlets' gateway runs it.

For a sandbox to come up the gateway needs 0.5 s, for each storlet's daemon 1 s.
"""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any

from container_stack import exceptions
from container_stack.host import containers
from container_stack.storlets import model
from container_stack.storlets.image import archive as archives
from container_stack.storlets.node import probe
from container_stack.storlets.verification import base as bases
from container_stack.storlets.verification import checks, disk, report, runtime, scratch
from container_stack.storlets.verification import trial as trials

_CURE = "Start it by `container-stack storlet run`, try /usr/bin/python3 in it, and build again."
#: More than a pipe holds, so that writing has to go on while the storlet reads.
_OBJECT = bytes(range(256)) * 1024
_METADATA = {"Probe": "container-stack", "Odd": "a, b; c=\"d\" 'e' %41"}
#: To have the image in the engine while others remove it.
_ATTEMPTS = 5
#: What kernels put into every network namespace once their modules are loaded; all are down.
_FALLBACKS = frozenset(
    ("tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "sit0", "ip6tnl0", "ip6gre0", "ip6_vti0")
)


@dataclasses.dataclass(frozen=True, slots=True)
class Run:
    """A candidate that is brought into the engine and run there.

    :param sandbox: of the gateway, which takes the scratch's name for an account.
    """

    sandbox: runtime.Sandbox
    place: scratch.Scratch
    archive: archives.ImageArchive
    trial: trials.Trial | None
    progress: model.Progress

    def findings(self, base: bases.Base, watch: disk.Watch) -> Iterator[report.Finding]:
        """Yield what the checks say; the first that fails is the last that is made."""
        try:
            self._bring(base)
        except exceptions.InvalidRequest as exc:
            text = f"The engine doesn't take it: {exc}"
            yield checks.failed(checks.SANDBOX, text, "Save the image again by docker save.")
            yield from checks.skipped((checks.IDENTITY, checks.STORLET), "It couldn't be run.")
            return
        watch.begin()
        for number, check in (
            (checks.SANDBOX, self._started),
            (checks.IDENTITY, self._identity),
            (checks.STORLET, self._storlet),
        ):
            self.progress(f"Running: {checks.NAME[number]}", 0, None)
            finding = check()
            yield finding
            if finding.state is report.State.FAILED:
                later = [each for each in checks.RUNNING if each > number]
                yield from checks.skipped(later, f"It failed {number}.")
                return

    def _bring(self, base: bases.Base) -> None:
        """Have the candidate in the engine, under the scratch's name.

        The engine is sent an archive that we make, which names nothing; without the base's layers
        where it has these.

        :raises InvalidRequest: the engine doesn't take it, or takes it for something else.
        """
        images, image_id = self.place.engine.images, self.archive.image_id
        for attempt in range(_ATTEMPTS):
            try:
                if images.find(image_id) is None:
                    self.place.record(image_id)
                    known = len(base.layers) if images.find(base.image_id) else 0
                    if not known or not self._load(known):
                        self._load(0)
                images.tag(image_id, self.place.reference)
                return
            except exceptions.NotFound:
                # Another verification of it has just ended, and removed it.
                if attempt == _ATTEMPTS - 1:
                    raise

    def _load(self, skip: int) -> bool:
        """Send the archive, and return whether it could be done without the layers to skip."""
        images = self.place.engine.images
        try:
            loaded = images.load(self._sent(skip))
        except (exceptions.EngineUnavailable, exceptions.NoSpace):
            raise
        except exceptions.ContainerStackError as exc:
            if skip:
                return False
            if isinstance(exc, exceptions.NotFound):
                raise
            raise exceptions.InvalidRequest(f"{exc}") from exc
        if [each.id for each in loaded] != [self.archive.image_id]:
            for each in loaded:
                images.remove(each.id)
            raise exceptions.InvalidRequest("It takes it for another image.")
        return True

    def _sent(self, skip: int) -> Iterator[bytes]:
        done, total = 0, self.archive.stream_size(skip)
        for chunk in self.archive.stream(skip):
            yield chunk
            done += len(chunk)
            self.progress("Loading", done, total)

    def _started(self) -> report.Finding:
        try:
            seconds = self.sandbox.start()
            container = self.place.engine.containers.inspect(self.place.sandbox)
        except (exceptions.ProbeFailed, exceptions.NotFound) as exc:
            return checks.failed(checks.SANDBOX, f"The gateway can't start it: {exc}", _CURE)
        if container.image_id != self.archive.image_id:
            return checks.failed(checks.SANDBOX, "Another image came up in its place.", _CURE)
        seen = _interfaces(container) - _FALLBACKS - {"lo"}
        if seen or any(container.addresses.values()):
            return checks.failed(
                checks.SANDBOX,
                f"It has a network: {checks.quoted(sorted(seen) or container.addresses)}.",
                "Look at the engine's and the gateway's configuration: sandboxes have only lo.",
            )
        return checks.passed(
            checks.SANDBOX, f"It answered after {seconds:.1f} s, and sees only lo."
        )

    def _identity(self) -> report.Finding:
        paths = [os.path.join(self.place.directory, name) for name in (probe.FILE, "object")]
        for path, content in zip(paths, (probe.SOURCE, _OBJECT), strict=True):
            with open(path, "wb") as file:
                file.write(content)
        trial = trials.Trial(
            file=paths[0],
            main=probe.MAIN,
            input=paths[1],
            output=paths[1],
            metadata=_METADATA,
            output_metadata=_METADATA,
        )
        try:
            answer = self.sandbox.run(trial)
        except exceptions.ProbeFailed as exc:
            text = f"A storlet that copies its input can't run: {exc}"
            return checks.failed(checks.IDENTITY, text, _CURE)
        if wrong := _wrong(answer, trial):
            text = f"A storlet that copies its input gave something else: {wrong}"
            return checks.failed(checks.IDENTITY, text, _CURE)
        return checks.passed(
            checks.IDENTITY,
            f"Bytes and metadata came back as they were, in {answer.seconds:.1f} s.",
        )

    def _storlet(self) -> report.Finding:
        if self.trial is None:
            return checks.skipped((checks.STORLET,), "No storlet was given to be tried.")[0]
        main, cure = (
            self.trial.main,
            (
                "Correct the storlet, or install in the image what it needs; "
                "`container-stack storlet run` shows what is there."
            ),
        )
        try:
            answer = self.sandbox.run(self.trial)
        except exceptions.ProbeFailed as exc:
            return checks.failed(checks.STORLET, f"{main} can't run: {exc}", cure)
        if wrong := _wrong(answer, self.trial):
            return checks.failed(checks.STORLET, f"{main}: {wrong}", cure)
        expected = "" if self.trial.output is None else " as expected"
        return checks.passed(
            checks.STORLET,
            f"{main}: {answer.size} bytes{expected} (SHA-256 {answer.sha256}), "
            f"in {answer.seconds:.1f} s.",
        )


def _interfaces(container: containers.Container) -> set[str]:
    """Return a container's network interfaces; none where this process doesn't see it."""
    try:
        with open(f"/proc/{container.pid}/cgroup", encoding="ascii") as file:
            # In a PID namespace of our own the number is somebody else's.
            if container.id not in file.read():
                return set()
        with open(f"/proc/{container.pid}/net/dev", encoding="ascii") as file:
            lines = file.read().splitlines()[2:]
    except OSError:
        return set()
    return {line.split(":", 1)[0].strip() for line in lines}


def _wrong(answer: runtime.Answer, trial: trials.Trial) -> str:
    """Return what isn't as expected; empty if all is."""
    if answer.differs is not None:
        return f"The output isn't as expected from byte {answer.differs} on."
    if trial.output_metadata is not None:
        return _wrong_metadata(answer.metadata, trial.output_metadata)
    return ""


def _wrong_metadata(found: Mapping[str, Any], wanted: Mapping[str, str]) -> str:
    keys = sorted(key for key in {*found, *wanted} if found.get(key) != wanted.get(key))
    return f"The metadata isn't as expected: {checks.quoted(keys)}." if keys else ""
