# SPDX-License-Identifier: Apache-2.0
"""Versions of an account's image, and a deployment that is under way: what the ledger keeps."""

import dataclasses
import enum
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from container_stack.storlets.verification import report


class ImageLayer(Protocol):
    """A layer of an image."""

    @property
    def diff_id(self) -> str:
        """Digest of its bytes: sha256:..."""

    @property
    def size(self) -> int:
        """Bytes."""


class Image(Protocol):
    """An archive, such as :class:`container_stack.storlets.image.archive.ImageArchive`."""

    @property
    def image_id(self) -> str:
        """Digest of its configuration: sha256:..."""

    @property
    def layers(self) -> Sequence[ImageLayer]:
        """The lowest first."""

    def stream(self, skip: int = 0) -> Iterator[bytes]:
        """Yield the archive without its first ``skip`` layers; by several threads at once."""


@dataclasses.dataclass(frozen=True, slots=True)
class Layer:
    """A layer as it is remembered; ``size`` is in bytes."""

    diff_id: str
    size: int


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """The object that an image came from, in the account that it is for."""

    container: str
    name: str
    etag: str


class Outcome(enum.StrEnum):
    """What became of a version."""

    DEPLOYED = "deployed"
    #: Every node is back at what it had before.
    FAILED = "failed"


@dataclasses.dataclass(frozen=True, slots=True)
class Version:
    """One change of an account's image; a rollback is one too.

    :param number: from 1 on, in the order of the changes.
    :param who: the operator, as the manager was told.
    :param when: seconds since 1970.
    :param restores: number of the version that this one brought back.
    :param error: why it failed.
    :param skipped: nodes that were down then.
    """

    number: int
    image_id: str
    who: str
    when: float
    layers: tuple[Layer, ...]
    report: report.Report
    source: Source | None = None
    note: str = ""
    restores: int | None = None
    outcome: Outcome = Outcome.DEPLOYED
    error: str = ""
    skipped: tuple[str, ...] = ()

    @property
    def diff_ids(self) -> tuple[str, ...]:
        """The layers' digests."""
        return tuple(layer.diff_id for layer in self.layers)

    @property
    def size(self) -> int:
        """Bytes of all layers."""
        return sum(layer.size for layer in self.layers)

    @property
    def origin(self) -> int:
        """The number under which the image was first deployed."""
        return self.restores or self.number


@dataclasses.dataclass(frozen=True, slots=True)
class Current:
    """What the nodes of an account should run; ``when`` it was decided, in seconds since 1970."""

    number: int
    image_id: str
    when: float


class Phase(enum.StrEnum):
    """How far a deployment has come; each begins when the record of it is stored."""

    #: Nodes get the image; no request has met it.
    STAGING = "staging"
    #: Every node has the image, and one after another uses it.
    SWITCHING = "switching"
    #: Nodes go back to what they had.
    UNDOING = "undoing"


@dataclasses.dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment that is under way, or whose manager has died.

    It doesn't grow with the nodes that are alike: how far each has come is asked of the nodes.

    :param token: the manager that is at work on it; another one that takes it over changes it.
    :param version: what it will leave in the history.
    :param wave: the wave that is under way, from 1 on; canaries are waves of one.
    :param previous: image of the nodes before; None where they had none.
    :param differing: of the nodes that had another one, by name.
    :param known: the image had been deployed before, so it stays when this is undone.
    :param unfinished: nodes that couldn't be put back yet.
    """

    token: str
    phase: Phase
    version: Version
    previous: str | None
    differing: Mapping[str, str | None]
    known: bool = False
    wave: int = 0
    waves: int = 0
    unfinished: tuple[str, ...] = ()

    def previous_of(self, node: str) -> str | None:
        """Return the image that a node had before."""
        return self.differing.get(node, self.previous)
