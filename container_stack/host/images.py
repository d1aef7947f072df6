# SPDX-License-Identifier: Apache-2.0
"""The Docker Engine's images, without a registry; archives stream through and fit any memory."""

import contextlib
import fnmatch
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO

import docker.utils

from container_stack import exceptions
from container_stack.host import containers, image_answers
from container_stack.host.image_answers import Image as Image

LOG = logging.getLogger(__name__)

CHUNK = 1024 * 1024
#: Seconds that the engine may keep silent while it unpacks layers.
PATIENCE = 600.0
#: Seconds that a step of a build may keep silent.
BUILD_PATIENCE = 3600.0

_LOADED = re.compile(r"Loaded image(?: ID)?: (\S+)")

#: A tar archive: a file, or its bytes in any pieces.
Archive = IO[bytes] | Iterable[bytes]


class Images:
    """The images of one engine. A reference is name, name:tag or id everywhere."""

    def __init__(self, engine: containers.Engine) -> None:
        self._connection = engine.connection

    def find(self, reference: str) -> Image | None:
        """Return an image, or None when this engine hasn't got it."""
        try:
            with self._connection.use() as client:
                return image_answers.image(client.inspect_image(reference))
        except exceptions.NotFound:
            return None

    def labelled(self, label: str) -> Sequence[Image]:
        """Return the images that carry a label, whatever its value."""
        with self._connection.use() as client:
            ids = [each["Id"] for each in client.images(filters={"label": label})]
        return [image for image in map(self.find, ids) if image]

    def tagged(self, *patterns: str) -> Mapping[str, str]:
        """Return the IDs of images by the references that fit a pattern, by one HTTP call.

        :param patterns: as name:tag, of which * and ? stand for parts without a slash.
        """
        with self._connection.use() as client:
            found = client.images(filters={"reference": list(patterns)})
        # An image comes with all its names.
        return {
            reference: image["Id"]
            for image in found
            for reference in image["RepoTags"] or ()
            if any(fnmatch.fnmatchcase(reference, pattern) for pattern in patterns)
        }

    def all(self) -> Iterator[Image]:
        """Yield all images, unnamed ones too."""
        with self._connection.use() as client:
            ids = {each["Id"] for each in client.images()}
        yield from filter(None, map(self.find, ids))

    def import_tar(self, stream: Archive, reference: str, changes: Sequence[str] = ()) -> Image:
        """Make an image of one layer from a root file system and return it.

        :param reference: the tag that it gets; whoever had it loses it.
        :param changes: Dockerfile lines: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, USER, VOLUME...
        :raises InvalidRequest: no tar archive, or a bad reference or change.
        """
        repository, tag = split_reference(reference)
        source = _Source(stream)
        with source.reporting(), self._connection.use(PATIENCE) as client:
            answer = client.import_image(
                src=iter(source),
                repository=repository,
                tag=tag,
                changes=list(changes),
            )
            messages = [json.loads(line) for line in answer.splitlines()]
        image_answers.raise_errors(messages)
        LOG.info("Imported image %(reference)s", {"reference": reference})
        return self._get(messages[-1]["status"])

    def load(self, stream: Archive) -> list[Image]:
        """Unpack an archive that :meth:`save` made and return the images in it; idempotent.

        Layers that the engine has are read and not stored again.

        :raises InvalidRequest: no image archive.
        """
        source = _Source(stream)
        with source.reporting(), self._connection.use(PATIENCE) as client:
            messages = list(client.load_image(iter(source)))
        image_answers.raise_errors(messages)
        text = "".join(message.get("stream", "") for message in messages)
        found = {image.id: image for image in map(self._get, _LOADED.findall(text))}
        LOG.info("Loaded images %(ids)s", {"ids": ", ".join(found)})
        return list(found.values())

    def build(
        self,
        context: Archive,
        dockerfile: str,
        *,
        labels: Mapping[str, str] | None = None,
        arguments: Mapping[str, str] | None = None,
        network: str | None = None,
        cache: bool = True,
        output: Callable[[str], None] = lambda _line: None,
    ) -> Image:
        """Build an image by the engine's own builder, which isn't BuildKit, and return it.

        It gets no name, and no image is fetched. The cache keeps what a failed build had made.

        :param context: a tar archive of the directory to build in.
        :param dockerfile: its name in there.
        :param arguments: values for ARG; the image's history shows them.
        :param network: for RUN: none, host, or a network; None is the engine's default.
        :param output: gets each line that the builder writes.
        :raises CommandFailed: a RUN failed.
        :raises InvalidRequest: the Dockerfile is bad, or something that it copies is missing.
        """
        source = _Source(context)
        with source.reporting(), self._connection.use(BUILD_PATIENCE) as client:
            messages = client.build(
                fileobj=iter(source),
                custom_context=True,
                dockerfile=dockerfile,
                labels=dict(labels or {}),
                buildargs=dict(arguments or {}),
                network_mode=network,
                nocache=not cache,
                rm=True,
                forcerm=True,
                decode=True,
            )
            image_id = image_answers.built(messages, output)
        LOG.info("Built image %(id)s", {"id": image_id})
        return self._get(image_id)

    def save(self, references: Sequence[str]) -> Iterator[bytes]:
        """Yield an archive of images; layers that they share are in it once.

        Saved by id an image loses its tags; saved by name it keeps that name.

        :raises NotFound: one of them is missing.
        """
        if not references:
            raise exceptions.InvalidRequest("There are no images to save; name some.")
        try:
            yield from self._connection.chunks(
                lambda client: client.save_images(list(references), CHUNK), PATIENCE
            )
        except exceptions.NotFound as exc:
            raise exceptions.NotFound(f"Can't save {', '.join(references)}: {exc}") from exc

    def push(self, reference: str) -> str:
        """Send an image to the registry that its name begins with, and return its reference there.

        That one has a digest, name@sha256:..., and so can't come to mean another image.

        :raises ServiceUnavailable: the registry doesn't answer the engine, or refuses.
        """
        repository, tag = split_reference(reference)
        with image_answers.of_registry(reference):
            with self._connection.use(PATIENCE) as client:
                answer = client.push(repository, tag, stream=True, decode=True, auth_config={})
                messages = list(answer)
            image_answers.raise_errors(messages)
        digests = [each["aux"]["Digest"] for each in messages if "Digest" in each.get("aux", {})]
        if not digests:
            raise exceptions.ServiceUnavailable(f"The registry didn't confirm {reference}.")
        LOG.info("Pushed image %(reference)s", {"reference": reference})
        return f"{repository}@{digests[-1]}"

    def pull(self, reference: str) -> Image:
        """Fetch an image from the registry that its name begins with, and return it.

        :param reference: name:tag or name@sha256:...
        :raises NotFound: the registry has no such image.
        :raises ServiceUnavailable: the registry doesn't answer the engine, or refuses.
        """
        name, _, digest = reference.partition("@")
        repository, tag = (name, digest) if digest else split_reference(reference)
        with image_answers.of_registry(reference):
            with self._connection.use(PATIENCE) as client:
                answer = client.pull(repository, tag, stream=True, decode=True, auth_config={})
                messages = list(answer)
            image_answers.raise_errors(messages)
        LOG.info("Pulled image %(reference)s", {"reference": reference})
        return self._get(reference)

    def tag(self, image: str, reference: str) -> None:
        """Give an image one more name, taking it from whoever had it; idempotent."""
        repository, tag = split_reference(reference)
        with self._connection.use() as client:
            client.tag(image, repository, tag)

    def remove(self, reference: str) -> None:
        """Take a name away, and the image with its last name; by id, the image. Idempotent.

        :raises Busy: a container uses the image, or it has several names and was given by id.
        """
        with contextlib.suppress(exceptions.NotFound), self._connection.use() as client:
            client.remove_image(reference)
            LOG.info("Removed image %(reference)s", {"reference": reference})

    def _get(self, reference: str) -> Image:
        image = self.find(reference)
        if image is None:
            raise exceptions.NotFound(f"Image {reference} was removed meanwhile; try again.")
        return image


class _Broken(Exception):
    """An archive can't be read on."""


class _Source:
    """Reads an archive for the SDK, and keeps its reading errors apart from the engine's."""

    def __init__(self, stream: Archive) -> None:
        self._stream = stream
        self._error: Exception | None = None

    def __iter__(self) -> Iterator[bytes]:
        try:
            if isinstance(self._stream, Iterable) and not hasattr(self._stream, "read"):
                yield from self._stream
            else:
                while chunk := self._stream.read(CHUNK):
                    yield chunk
        except Exception as exc:
            self._error = exc
            # Some errors of sockets, this might be one, mean to urllib3 that an answer waits.
            raise _Broken from exc

    @contextlib.contextmanager
    def reporting(self) -> Iterator[None]:
        """Raise what the stream raised, if that is why the body failed."""
        try:
            yield
        except (exceptions.ContainerStackError, _Broken):
            if self._error is not None:
                raise self._error from None
            raise


def split_reference(reference: str) -> tuple[str, str]:
    """Return repository and tag; a colon before a slash belongs to a registry's port."""
    repository, colon, tag = reference.rpartition(":")
    if not colon or "/" in tag:
        repository, tag = reference, "latest"
    if not docker.utils.match_tag(f"{repository}:{tag}"):
        raise exceptions.InvalidRequest(f"{reference!r} is no image name; give name:tag.")
    return repository, tag
