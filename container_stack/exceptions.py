# SPDX-License-Identifier: Apache-2.0
"""Everything that container_stack raises on purpose, as one tree.

::

    ContainerStackError
    ├── InvalidRequest          the input is wrong; nothing was changed
    │   └── PossibleDataLoss    obeying would have cut off data; nothing was changed
    ├── NotFound                the thing that was asked for does not exist
    ├── AlreadyExists           the name is taken; nothing was changed
    ├── Busy                    somebody holds the thing; try again later
    ├── NoSpace                 the pool or the file system is full
    ├── NotSupported            this backend or host can't do it
    ├── HostNotReady            something that the operator provides is missing or unusable
    ├── EngineUnavailable       the Docker Engine doesn't answer
    ├── ArrayUnavailable        a storage array, or a target of it, doesn't answer
    ├── ServiceUnavailable      a service, such as Swift, doesn't answer
    ├── AccessDenied            an array, a target or a service refuses who we say we are
    ├── ProbeFailed             something new was tried before use, and didn't work
    ├── RootHelperUnavailable   privileged commands can't be run at all
    └── CommandFailed           a command ran and failed, or overran its deadline

Every message is one sentence, holds no secret, and says what to do where that is known.
"""


class ContainerStackError(Exception):
    """Anything that container_stack raises on purpose."""


class InvalidRequest(ContainerStackError):
    """The input is wrong; nothing was changed."""


class PossibleDataLoss(InvalidRequest):
    """Obeying would have cut off data; nothing was changed."""


class NotFound(ContainerStackError):
    """The thing that was asked for does not exist."""


class AlreadyExists(ContainerStackError):
    """The name is taken; nothing was changed."""


class Busy(ContainerStackError):
    """Somebody holds the thing; the same call may succeed later."""


class NoSpace(ContainerStackError):
    """The pool or the file system is full."""


class NotSupported(ContainerStackError):
    """This backend, or this host, can't do it."""


class HostNotReady(ContainerStackError):
    """Something that the operator provides is missing: an image, a volume group, a program.

    Not a NotFound: who deletes a share takes that for "deleted already".
    """


class EngineUnavailable(ContainerStackError):
    """The Docker Engine doesn't answer, or refuses this user."""


class ArrayUnavailable(ContainerStackError):
    """A storage array, or a target of it, doesn't answer in time; it may do so later."""


class AccessDenied(ContainerStackError):
    """An array or a service refuses this user, or a target our initiator or its CHAP secret."""


class ServiceUnavailable(ContainerStackError):
    """A service of the cloud doesn't answer, or only with errors of its own."""


class ProbeFailed(ContainerStackError):
    """Something new was tried before anybody relied on it, and didn't work; it isn't used."""


class RootHelperUnavailable(ContainerStackError):
    """No privileged command can be run: the root helper doesn't start."""


class CommandFailed(ContainerStackError):
    """A command ran and failed.

    :param command: its name in the catalogue, or its program when it runs in a container.
    :param exit_code: as the kernel reports it; negative is minus the signal's number.
    :param stderr: what it said; only the last line that isn't empty is kept.
    :param timed_out: it overran its deadline and was killed.
    """

    def __init__(
        self, command: str, exit_code: int, stderr: str = "", *, timed_out: bool = False
    ) -> None:
        lines = [line.strip() for line in stderr.splitlines() if line.strip()]
        self.command = command
        self.exit_code = exit_code
        self.stderr = lines[-1][:500] if lines else ""
        self.timed_out = timed_out
        super().__init__(command, exit_code, self.stderr)

    def __str__(self) -> str:
        if self.timed_out:
            return f"{self.command} overran its deadline and was killed."
        said = f": {self.stderr}" if self.stderr else ""
        return f"{self.command} failed with exit code {self.exit_code}{said}"
