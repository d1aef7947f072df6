# SPDX-License-Identifier: Apache-2.0
"""What is done to images on one host, for which no Swift is needed: build, try, verify."""

import functools
import os
import pwd
from collections.abc import Callable, Iterator, Mapping, Sequence

from container_stack import exceptions
from container_stack.drivers import storlet_registry, storlet_runtime
from container_stack.host import console as consoles
from container_stack.host import containers, images
from container_stack.storlets import gateway, model, settings
from container_stack.storlets.deployment import supply
from container_stack.storlets.image import archive as archives
from container_stack.storlets.verification import base, report, verify
from container_stack.storlets.verification import trial as trials
from container_stack.storlets.workbench import build, dockerfile, run

#: Whose sandboxes these are on nodes, and who has no rights anywhere.
SWIFT, NOBODY = "swift", 65534


class Workbench:
    """An engine of this host. Nothing is contacted or read until it is used.

    :raises EngineUnavailable: by every method, when the engine doesn't answer.
    """

    def __init__(self, values: settings.Settings) -> None:
        self._settings = values
        self._engine = containers.Engine(values.docker_url)
        self._images = images.Images(self._engine)

    @functools.cached_property
    def gateway(self) -> gateway.Gateway:
        """The gateway's configuration.

        :raises InvalidRequest: there is none, or the runtime would fail with it.
        """
        return gateway.Gateway.read(self._settings.gateway_conf)

    def base(self, reference: str | None = None) -> base.Base:
        """Return the facts of the base image.

        :param reference: in this engine; None is the one of the settings.
        :raises HostNotReady: the engine hasn't got it.
        """
        name = reference or self._settings.base_image
        found = self._images.find(name)
        if found is None:
            raise exceptions.HostNotReady(
                f"The base image {name} isn't in the engine; download it with --load, or set "
                "base_image."
            )
        return base.Base.of(found)

    def load(
        self, path: str, reference: str, progress: model.Progress = model.silent
    ) -> images.Image:
        """Bring an image into the engine by a name of ours, and return it.

        What the archive itself claims to be called is ignored.

        :raises InvalidRequest: it is no image archive, or a damaged one.
        """
        images.split_reference(reference)
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            image = archives.ImageArchive.open(file, size, self._settings.bounds)
            image.check_digests(progress)
            self._images.load(_watched(image, f"Loading {os.path.basename(path)}", progress))
        self._images.tag(image.image_id, reference)
        found = self._images.find(image.image_id)
        if found is None:
            raise exceptions.InvalidRequest(
                f"The engine took {path} for another image than {image.image_id}."
            )
        return found

    def build(
        self,
        directory: str,
        reference: str,
        *,
        base_image: str | None = None,
        file: str = "Dockerfile",
        arguments: Mapping[str, str] | None = None,
        network: str | None = None,
        cache: bool = True,
        dry_run: bool = False,
        output: Callable[[str], None] = lambda _line: None,
        progress: model.Progress = model.silent,
    ) -> build.Result:
        """Build over the base; see :func:`container_stack.storlets.workbench.build.build`."""
        return build.build(
            self._images,
            directory,
            reference,
            self.parent(base_image),
            file=file,
            arguments=arguments,
            network=network,
            cache=cache,
            dry_run=dry_run,
            output=output,
            progress=progress,
        )

    def parent(self, reference: str | None = None) -> dockerfile.Parent:
        """Return the image to build from, with all that a Dockerfile may call it."""
        name = reference or self._settings.base_image
        return build.find_parent(self._images, name, [self._settings.base_image])

    def save(self, image_id: str, path: str, progress: model.Progress = model.silent) -> None:
        """Write an image's archive; see :func:`container_stack.storlets.workbench.build.save`."""
        build.save(self._images, image_id, path, progress)

    def run(self, image: str, command: Sequence[str], console: consoles.Console) -> int:
        """Run a command as in a sandbox; see :func:`container_stack.storlets.workbench.run.run`."""
        user = self.user()
        return run.run(self._engine, self.gateway, image, command, user=user, console=console)

    def verify(
        self,
        path: str,
        account: model.Account,
        *,
        base_image: str | None = None,
        trial: trials.Trial | None = None,
        java: bool = False,
        progress: model.Progress = model.silent,
    ) -> report.Report:
        """Return what all checks say of an archive.

        See :meth:`container_stack.storlets.verification.verify.Verifier.verify`.
        """
        verifier = verify.Verifier(
            self._images,
            self._engine,
            storlet_runtime.GatewayRuntime(self._settings.verify_timeout, self.user()),
            self.gateway,
            self.base(base_image),
            self._settings.bounds,
            growth=self._settings.growth,
            java=java,
        )
        return verifier.verify(path, account, trial=trial, progress=progress)

    def push_to(self, registry: str) -> supply.Push:
        """Return what sends images from this host's engine to a registry."""
        return storlet_registry.Registry(self._images, registry).push

    def user(self) -> str:
        """Return UID:GID of sandboxes here: Swift's, or somebody's without rights."""
        try:
            return node_user(self._settings)
        except exceptions.HostNotReady:
            if self._settings.sandbox_user:
                raise
        return f"{os.getuid()}:{os.getgid()}" if os.getuid() else f"{NOBODY}:{NOBODY}"


def _watched(image: archives.ImageArchive, what: str, progress: model.Progress) -> Iterator[bytes]:
    done, total = 0, image.stream_size()
    for piece in image.stream():
        yield piece
        done += len(piece)
        progress(what, done, total)


def node_user(values: settings.Settings) -> str:
    """Return UID:GID of sandboxes on nodes.

    :raises HostNotReady: it is given by a name that isn't known here.
    """
    name, _, group = (values.sandbox_user or SWIFT).partition(":")
    if name.isdigit():
        return f"{name}:{group}" if group else name
    try:
        entry = pwd.getpwnam(name)
    except KeyError as exc:
        raise exceptions.HostNotReady(
            f"This host has no user {name}, whom sandboxes run as; set sandbox_user to the UID "
            "of Swift's servers on the nodes."
        ) from exc
    return f"{entry.pw_uid}:{group or entry.pw_gid}"
