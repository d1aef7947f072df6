# SPDX-License-Identifier: Apache-2.0
"""An account's image from a Dockerfile over the base that was downloaded, and into a file.

Checked before anything is built, built from the base's ID, and looked at before it gets its name.
"""

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence

from container_stack import exceptions
from container_stack.host import images, locks
from container_stack.storlets import model
from container_stack.storlets.store import partfile
from container_stack.storlets.verification import base as bases
from container_stack.storlets.verification import report
from container_stack.storlets.workbench import context, dockerfile
from container_stack.storlets.workbench import dockerfile_rules as rules

#: Every image that is built here has it; its value is the base's ID.
LABEL = "container_stack.storlets.verification.base"
#: What the engine gets the Dockerfile as, so that it meets no file of the directory's.
FILE = ".container-stack.Dockerfile"


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What came of a build.

    :param image: None when it was refused, before or after it was built, or only tried.
    """

    image: images.Image | None
    findings: Sequence[rules.Finding]

    @property
    def refused(self) -> bool:
        """Whether something stands against the image."""
        return any(each.state == report.State.FAILED for each in self.findings)


def find_parent(
    engine: images.Images, reference: str, names: Sequence[str] = ()
) -> dockerfile.Parent:
    """Return the base image to build from.

    :param reference: in this engine: its ID, or a name.
    :param names: what else people call it, as its object's Image-Name.
    :raises NotFound: this engine hasn't got it.
    """
    found = engine.find(reference)
    if found is None:
        raise exceptions.NotFound(
            f"The base image {reference} isn't in the engine; download and load it first."
        )
    return dockerfile.Parent(found.id, tuple(dict.fromkeys([*names, *found.tags])))


def build(
    engine: images.Images,
    directory: str,
    reference: str,
    parent: dockerfile.Parent,
    *,
    file: str = "Dockerfile",
    arguments: Mapping[str, str] | None = None,
    network: str | None = None,
    cache: bool = True,
    dry_run: bool = False,
    output: Callable[[str], None] = lambda _line: None,
    progress: model.Progress = model.silent,
) -> Result:
    """Build an image in a directory and name it, if nothing stands against it.

    A refused image is removed again. Whoever had the name keeps it until the new one is there.

    :param file: the Dockerfile, below the directory.
    :param arguments: values for ARG; the image's history shows them.
    :param network: for RUN: none, host, or a network; None is the engine's default.
    :param dry_run: only check the Dockerfile.
    :param output: gets each line that the builder writes.
    :raises InvalidRequest: the Dockerfile can't be read, or the name is the base's or malformed.
    :raises CommandFailed: a RUN failed.
    """
    _check_name(engine, reference, parent)
    parsed = dockerfile.Dockerfile(context.read(directory, file), arguments)
    result = Result(None, parsed.check(parent, offline=network == "none"))
    if result.refused or dry_run:
        return result
    built = engine.build(
        context.stream(directory, {FILE: parsed.over(parent)}, progress),
        FILE,
        labels={LABEL: parent.image_id},
        arguments=arguments,
        network=network,
        cache=cache,
        output=output,
    )
    with contextlib.ExitStack() as undo:
        if not built.tags:  # an image that was there before, by the cache, isn't ours to remove
            undo.callback(engine.remove, built.id)
        findings = [*result.findings, *_check_image(engine, built, parent)]
        result = Result(built, findings)
        if result.refused:
            return Result(None, findings)
        engine.tag(built.id, reference)
        undo.pop_all()
    return Result(engine.find(built.id), findings)


def save(
    engine: images.Images, image_id: str, path: str, progress: model.Progress = model.silent
) -> None:
    """Write an image's archive, whole or not at all; what was at the path is replaced.

    By its ID, so that the archive claims no name.

    :raises NotFound: the image is missing.
    :raises Busy: another process writes this file.
    :raises NoSpace: the disk is full.
    :raises InvalidRequest: the path can't be used.
    """
    part = f"{path}.part"
    with (
        partfile.local(path),
        open(locks.lock(part, wait=False), "wb") as file,
        contextlib.ExitStack() as undo,
    ):
        undo.callback(os.unlink, part)
        file.truncate()
        for chunk in engine.save([image_id]):
            file.write(chunk)
            progress(os.path.basename(path), file.tell(), None)
        file.flush()
        os.fsync(file.fileno())
        os.rename(part, path)
        undo.pop_all()


def _check_name(engine: images.Images, reference: str, parent: dockerfile.Parent) -> None:
    images.split_reference(reference)
    found = engine.find(reference)
    if found is not None and found.id == parent.image_id:
        raise exceptions.InvalidRequest(f"{reference} names the base itself; choose another name.")


def _check_image(
    engine: images.Images, image: images.Image, parent: dockerfile.Parent
) -> Iterator[rules.Finding]:
    """Look for what the Dockerfile didn't show."""
    found = engine.find(parent.image_id)
    if found is None:
        raise exceptions.NotFound("The base image was removed meanwhile; load it and try again.")
    base = bases.Base.of(found)
    if image.layers[: len(base.layers)] != base.layers or image.architecture != base.architecture:
        yield rules.failed(None, "the image doesn't stand on the base", "write FROM the base")
    for key in ("Entrypoint", "Cmd", "OnBuild"):
        if bases.words(image.config, key) != bases.words(base.config, key):
            name = key.upper()
            yield rules.failed(None, f"the image's {name} isn't the base's", f"remove {name}")
    added = set(image.config.get("Volumes") or ()) - set(base.config.get("Volumes") or ())
    # Warnings have been given for the Dockerfile.
    findings = itertools.chain(
        rules.check_volumes(None, sorted(added)),
        rules.check_variables(
            None, (each.partition("=")[0] for each in bases.words(image.config, "Env"))
        ),
    )
    yield from (each for each in findings if each.state == report.State.FAILED)
