# SPDX-License-Identifier: Apache-2.0
"""Tells whether an account's image may be deployed, by twelve checks, the last ones in a sandbox.

Eight look into the archive, one at the gateway's configuration; only an image that passes them is
brought into the engine, from an archive of our own making and under a name of our own, and run
there by storlets' gateway with the deployment's options and limits.
"""

import dataclasses
import os
import time
from collections.abc import Sequence
from typing import BinaryIO

from container_stack import exceptions
from container_stack.host import containers, images
from container_stack.storlets import gateway, model, settings
from container_stack.storlets.image import archive as archives
from container_stack.storlets.image import tree
from container_stack.storlets.verification import (
    base,
    checks,
    checks_config,
    checks_files,
    checks_sandbox,
    disk,
    native,
    report,
    scratch,
)
from container_stack.storlets.verification import trial as trials
from container_stack.storlets.verification.runtime import Answer as Answer
from container_stack.storlets.verification.runtime import Place as Place
from container_stack.storlets.verification.runtime import Runtime as Runtime
from container_stack.storlets.verification.runtime import Sandbox as Sandbox

#: Short, as names of sockets come below it, and on disk, as the next boot must find it.
DIRECTORY = "/var/tmp/cs-verify"  # noqa: S108 - scratch refuses what isn't its own
_SAVE = "Save the image again by docker save, and upload that."


@dataclasses.dataclass(frozen=True, slots=True)
class _Archive:
    """An archive that passed the first check."""

    image: archives.ImageArchive
    files: tree.Tree


class Verifier:
    """Verifies images on this host; several may do so at once.

    :param engine: of this host: sandboxes have directories of the host's.
    :param bounds: what an archive may be at most.
    :param directory: for what a verification makes; a short path. Only this user may write there.
    :param growth: bytes of disk that the candidate may take while it runs, files and output.
    :param java: the image must be able to run storlets in Java.
    :raises InvalidRequest: the engine is another host's.
    """

    def __init__(
        self,
        engine_images: images.Images,
        engine: containers.Engine,
        runtime: Runtime,
        node_gateway: gateway.Gateway,
        base_image: base.Base,
        bounds: archives.Bounds | None = None,
        *,
        directory: str = DIRECTORY,
        growth: int = settings.GIB,
        java: bool = False,
    ) -> None:
        url = engine.connection.url
        if not url.startswith("unix:"):
            raise exceptions.InvalidRequest(
                f"Images can't be verified by the engine at {url}: give the one of this host, "
                "as unix:///path."
            )
        self._engine = scratch.Engine(url, engine, engine_images)
        self._runtime = runtime
        self._gateway = node_gateway
        self._base = base_image
        self._bounds = bounds
        self._directory = directory
        self._growth = growth
        self._java = java

    def verify(
        self,
        path: str,
        account: model.Account,
        *,
        trial: trials.Trial | None = None,
        progress: model.Progress = model.silent,
    ) -> report.Report:
        """Return what all checks say of an image archive; a bad image raises nothing.

        Safe under kill -9: what is left then, the next verification removes.

        :param path: of the archive, as ``docker save`` writes it.
        :raises InvalidRequest: there is no such file.
        :raises HostNotReady: this host lacks something; that isn't the image's fault.
        :raises EngineUnavailable: its engine doesn't answer.
        :raises NoSpace: its disk is full.
        """
        begin, host = time.monotonic(), native.look()
        image_id, findings = "", [checks_config.limits(self._gateway.limits)]
        try:
            file = open(path, "rb")  # noqa: SIM115 - closed below
        except OSError as exc:
            raise exceptions.InvalidRequest(f"{path} can't be read: {exc.strerror}.") from exc
        with file, scratch.lend(self._directory, self._engine) as place:
            watch = disk.Watch(
                self._engine.containers, place.sandbox, place.directory, self._growth
            )
            # Opened at once: the gateway loads while the archive is read.
            with self._runtime.open(self._place(place), watch) as sandbox:
                try:
                    archive = self._archive(file, progress)
                except exceptions.InvalidRequest as exc:
                    findings += _unusable(exc)
                else:
                    image_id = archive.image.image_id
                    findings += self._looked(archive, host, trial)
                    if why := _stopped(findings):
                        findings += checks.skipped(checks.RUNNING, why)
                    else:
                        run = checks_sandbox.Run(sandbox, place, archive.image, trial, progress)
                        findings += run.findings(self._base, watch)
            size = os.fstat(file.fileno()).st_size
        return report.Report(
            account=account.name,
            image_id=image_id,
            size=size,
            created=time.time(),
            seconds=time.monotonic() - begin,
            findings=sorted(findings, key=lambda each: each.number),
        )

    def _archive(self, file: BinaryIO, progress: model.Progress) -> _Archive:
        size = os.fstat(file.fileno()).st_size
        image = archives.ImageArchive.open(file, size, self._bounds)
        image.check_digests(progress)
        layers = tuple(each.diff_id for each in image.layers)
        known = len(self._base.layers)
        trusted = known if layers[:known] == self._base.layers else 0
        return _Archive(image, image.tree(progress, trusted=trusted))

    def _looked(
        self, archive: _Archive, host: native.Native, trial: trials.Trial | None
    ) -> list[report.Finding]:
        """Make the checks for which nothing has to run."""
        image, files = archive.image, archive.files
        config = image.config["config"]
        layers = [each.diff_id for each in image.layers]
        java = self._java or (trial is not None and trial.language == "java")
        return [
            checks.passed(checks.ARCHIVE, f"{len(layers)} layers, {image.size} bytes."),
            checks_config.names(image.names, image.image_id, self._engine.images),
            checks_config.base(image.config, layers, self._base),
            checks_config.command(config, self._base),
            checks_files.environment(config, self._base, files),
            checks_files.modules(config, files),
            checks_files.logger(config, files),
            checks_files.programs(
                files,
                host,
                checks_files.Wanted(trial.version if trial else None, java),
                len(self._base.layers),
            ),
        ]

    def _place(self, place: scratch.Scratch) -> Place:
        return Place(
            engine_url=self._engine.url,
            directory=place.directory,
            scope=place.scope,
            options={**self._gateway.options, **place.options},
            start_timeout=self._gateway.start_timeout,
        )


def _unusable(exc: exceptions.InvalidRequest) -> list[report.Finding]:
    others = [each for each in checks.NAME if each not in (checks.ARCHIVE, checks.LIMITS)]
    return [
        checks.failed(checks.ARCHIVE, str(exc), _SAVE),
        *checks.skipped(others, "The archive can't be used."),
    ]


def _stopped(findings: Sequence[report.Finding]) -> str:
    """Return why an image isn't run; empty if it is."""
    bad = [str(each.number) for each in findings if each.state is report.State.FAILED]
    return f"It wasn't run, as it failed {', '.join(sorted(bad, key=int))}." if bad else ""
