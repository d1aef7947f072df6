# SPDX-License-Identifier: Apache-2.0
"""Remote block devices: the contract of every way to reach one.

An attacher logs in to a target and gives a :class:`BlockDevice`, which reads and writes at any
offset and of any length. The ways are entry points in ``container_stack.attach``: ``brick`` (the
kernel's initiator through os-brick), ``libiscsi`` (an initiator in this process, no root) and
``file`` (volumes of the EDF simulator, without iSCSI).
"""

import abc
import dataclasses
from collections.abc import Mapping
from types import TracebackType
from typing import Self

#: What can be written from: bytes, bytearray, memoryview.
Buffer = bytes | bytearray | memoryview


@dataclasses.dataclass(frozen=True, slots=True)
class Chap:
    """Who we are to a target; ``mutual_*`` is who the target must be to us."""

    user: str
    secret: str = dataclasses.field(repr=False)
    mutual_user: str = ""
    mutual_secret: str = dataclasses.field(default="", repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """A volume as an array exports it.

    :param iqn: the target's name.
    :param portals: ``address:port``, IPv6 addresses in brackets; each leads to the same volume.
    :param lun: the volume's number, or None for the only one that isn't a controller.
    """

    iqn: str
    portals: tuple[str, ...]
    lun: int | None = None
    chap: Chap | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What an attacher may need; each takes what concerns it.

    :param initiator: our name (IQN); empty: the attacher's own choice.
    :param timeout: seconds that one request to a target may take, over all its portals.
    :param multipath: use all portals at once (``brick``).
    :param root_helper: command line that runs another as root (``brick``).
    :param rootwrap_config: rootwrap.conf with this project's filters (``brick``).
    :param directory: where the simulator keeps its volumes (``file``).
    """

    initiator: str = ""
    timeout: float = 60.0
    multipath: bool = False
    root_helper: str = ""
    rootwrap_config: str = ""
    directory: str = ""


class BlockDevice(abc.ABC):
    """An attached volume; threads may share it.

    Every method raises :class:`~container_stack.exceptions.ArrayUnavailable` when no portal
    answers in time, :class:`~container_stack.exceptions.NoSpace` when a thin volume's pool is
    full, and :class:`~container_stack.exceptions.InvalidRequest` past the end.
    """

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """Bytes, as last seen."""

    @abc.abstractmethod
    def read(self, offset: int, length: int) -> bytes:
        """Return exactly ``length`` bytes."""

    @abc.abstractmethod
    def write(self, offset: int, data: Buffer) -> None:
        """Write all of ``data``. What lies around it, also within its blocks, stays as it was."""

    @abc.abstractmethod
    def flush(self) -> None:
        """Return when everything written is on stable storage."""

    @abc.abstractmethod
    def refresh(self) -> int:
        """Ask the target for the size, after the volume grew, and return it."""

    @abc.abstractmethod
    def close(self) -> None:
        """Log out. Idempotent; doesn't flush."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Attacher(abc.ABC):
    """One way to reach targets; threads may share it."""

    @property
    @abc.abstractmethod
    def initiator(self) -> str:
        """Our name (IQN), which the target's access list must hold."""

    @abc.abstractmethod
    def attach(self, target: Target, *, read_only: bool = False) -> BlockDevice:
        """Log in and return the volume.

        :raises ArrayUnavailable: no portal answers in time.
        :raises AccessDenied: the target refuses our initiator or CHAP secret.
        :raises HostNotReady: this host lacks something; the text says what to install.
        :raises NotFound: the target or its volume doesn't exist.
        """

    @abc.abstractmethod
    def check(self) -> Mapping[str, str]:
        """Return what this way needs of the host and has (name: version or path).

        :raises HostNotReady: something is missing; the text says what to install.
        """
