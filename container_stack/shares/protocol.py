# SPDX-License-Identifier: Apache-2.0
"""What a share server's protocol must say and do.

A protocol is one class. Whoever writes one runs the contract that every protocol keeps,
:mod:`container_stack.testing.share_protocol_contract`, over it.
"""

import abc
import dataclasses
import os
import types
from collections.abc import Iterable, Mapping
from typing import ClassVar

from container_stack import exceptions
from container_stack.host import containers

LEVELS = ("rw", "ro")
#: Passwords of nobody.
NO_KEYS: Mapping[str, str] = types.MappingProxyType({})
#: The directory of a share's volume that clients see; it is made with the share's first rules.
DATA = "data"


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """Who may use a share, or from where. Each protocol has a class of its own, which checks.

    :param kind: such as ``user`` or ``ip``.
    :param to: a user's name, or an IP address or network.
    :param level: ``rw``, or ``ro`` for who may only read.
    :raises InvalidRequest: the level is none, or what the protocol can't understand.
    :raises NotSupported: the protocol has no rules of this kind, or not with this level.
    """

    kind: str
    to: str
    level: str = "rw"

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise exceptions.InvalidRequest(f"Access level {self.level!r} is not rw or ro.")


class Protocol(abc.ABC):
    """One protocol in one running share server.

    Every method may be repeated, also after a crash in the middle of it. Changes of one server
    wait for each other. Shares and their rules outlive the container and any kill of it.

    :raises CommandFailed: by every method; it failed, and may be repeated.
    """

    #: As Manila calls it, such as CIFS.
    name: ClassVar[str]
    #: One line on what serves it, where, and whose rules it has.
    summary: ClassVar[str]
    #: The rules that it can obey.
    rule: ClassVar[type[Rule]]

    def __init__(self, engine: containers.Engine, container_id: str) -> None:
        self._engine = engine
        self._container_id = container_id

    @staticmethod
    @abc.abstractmethod
    def export_location(address: str, share: str) -> str:
        r"""Return what a client connects to: ``\\192.0.2.5\NAME`` or ``192.0.2.5:/NAME``."""

    @abc.abstractmethod
    def wait_ready(self, timeout: float) -> None:
        """Return when clients can connect: the server is alive.

        :param timeout: seconds, rounded up to whole ones.
        """

    @abc.abstractmethod
    def set_share(
        self, name: str, rules: Iterable[Rule], keys: Mapping[str, str] = NO_KEYS
    ) -> Mapping[str, str]:
        """Serve a share to exactly those whom the rules name; to nobody without rules.

        Who lost access, or may no longer write, is cut off at his next operation or before; all
        others go on undisturbed.

        :param rules: all of them, of this protocol's class.
        :param keys: passwords for users whom the server doesn't know yet; without, it makes some.
        :returns: each user's password, where the protocol has passwords.
        :raises InvalidRequest: the share can't have this name, or rules contradict each other.
        :raises CommandFailed: also when the share's volume isn't mounted.
        """

    @abc.abstractmethod
    def restore_share(self, name: str) -> None:
        """Serve a share again as its rules said, whose volume was away and is mounted now.

        A share that was never given rules stays as it is.
        """

    @abc.abstractmethod
    def remove_share(self, name: str) -> None:
        """Stop serving a share, if it is served; when this returns the host can unmount it."""

    @abc.abstractmethod
    def suspend(self, name: str) -> None:
        """Let nobody use a share until it is set again; when this returns the host can unmount it.

        :meth:`shares` still tells its rules, and its users keep their passwords.
        """

    @abc.abstractmethod
    def shares(self) -> Mapping[str, frozenset[Rule]]:
        """Return the rules of every share that somebody may use."""

    def unknown(self, rules: Iterable[Rule]) -> frozenset[str]:
        """Return the names in rules that mean nobody, where users aren't made for rules."""
        return frozenset()

    def _run(self, program: str, *words: str, stdin: bytes = b"", timeout: float = 60.0) -> str:
        """Run one of the container's own programs and return what it printed."""
        result = self._engine.exec(
            self._container_id, [program, *words], stdin=stdin, timeout=timeout
        )
        if result.exit_code:
            said = result.stderr.decode(errors="replace")
            what = f"{os.path.basename(program)} {words[0]}"
            raise exceptions.CommandFailed(what, result.exit_code, said)
        return result.stdout.decode(errors="replace")
