# SPDX-License-Identifier: Apache-2.0
"""A session of libiscsi, an iSCSI initiator within the process that uses it.

The library would reconnect by itself, to the same portal; that is switched off here, since a
target has several.
"""

import dataclasses
import os
import re
import select
from collections.abc import Callable

from container_stack import exceptions
from container_stack.host import attach, libiscsi_abi, scsi

_REDIRECTED = 0x101
#: Statuses from here on aren't a target's: the command was never answered.
_UNANSWERED = 0x0F000000
_NORMAL_SESSION, _NO_DIGEST = 2, 0
_NO_DATA, _DATA_IN, _DATA_OUT = 0, 1, 2
_UNDERFLOW = 1
_POLLRDHUP = 0x2000

#: Answered commands whose memory is kept until all that is queued has been sent.
_MOST_RETIRED = 64

#: What a login may be answered with (RFC 7143, 11.13.5), where it isn't the array's trouble.
_REFUSALS: dict[int, type[exceptions.ContainerStackError]] = {
    0x0201: exceptions.AccessDenied,
    0x0202: exceptions.AccessDenied,
    0x0203: exceptions.NotFound,
    0x0204: exceptions.NotFound,
}

_Answered = Callable[[scsi.Answer | None], None]


@dataclasses.dataclass(frozen=True, slots=True)
class Login:
    """Who logs in to what.

    :param isid: number of the session, of 24 bits; with the same one, a new connection ends what
        is left of the old one and its commands (RFC 7143, 6.3.5).
    """

    initiator: str
    iqn: str
    chap: attach.Chap | None
    isid: int


class Connection:
    """One session over one portal, in one thread.

    Its owner polls :meth:`fileno` for :attr:`events` and calls :meth:`service`.

    :ivar ready: the login is done; commands can be sent.
    :ivar was_ready: it was done once.
    :ivar failure: why there is no session (any more).
    :ivar moved_to: portal that the target wants to be asked at instead.
    """

    def __init__(self, portal: str, login: Login) -> None:
        self.ready = self.was_ready = False
        self.failure: exceptions.ContainerStackError | None = None
        self.moved_to = ""
        self.portal = portal
        self._iqn = login.iqn
        self._library = libiscsi_abi.load()
        self._commands: dict[int, tuple[int, scsi.Command, _Answered]] = {}
        self._retired: list[tuple[int, scsi.Command]] = []
        self._sent = 0
        self._left = False
        # ctypes frees a callback whose last reference goes; the library would call into nothing.
        self._on_connect, self._on_login, self._on_logout, self._on_answer = (
            libiscsi_abi.Callback(each)
            for each in (self._connected, self._logged_in, self._logged_out, self._answered)
        )
        self._context = self._library.iscsi_create_context(login.initiator.encode())
        if not self._context:
            raise exceptions.ArrayUnavailable("libiscsi has no memory left.")
        self._set_up(login)
        if self._library.iscsi_connect_async(
            self._context, portal.encode(), self._on_connect, None
        ):
            self._fail()
        else:
            os.set_inheritable(self.fileno(), False)

    def fileno(self) -> int:
        """Return what to poll; negative when there is nothing any more."""
        return int(self._library.iscsi_get_fd(self._context)) if self._context else -1

    @property
    def events(self) -> int:
        """What to poll it for."""
        return int(self._library.iscsi_which_events(self._context)) | _POLLRDHUP

    @property
    def congested(self) -> bool:
        """Whether nothing should be sent before what is queued has gone out."""
        return len(self._retired) >= _MOST_RETIRED

    @property
    def left(self) -> bool:
        """Whether the target has confirmed the logout."""
        return self._left

    def service(self, events: int) -> None:
        """Send and receive what can be without waiting; answers are delivered from in here."""
        hung_up = events & (_POLLRDHUP | select.POLLHUP | select.POLLERR | select.POLLNVAL)
        if events & select.POLLIN:
            # What a target says before it hangs up counts; the library wouldn't read it.
            events &= select.POLLIN | select.POLLOUT
        broken = self._library.iscsi_service(self._context, events & ~_POLLRDHUP)
        if broken or hung_up:
            self._fail("the connection was closed" if hung_up else "")
        if self._retired and self._all_is_sent():
            self._free_retired()

    def send(self, lun: int, command: scsi.Command, answered: _Answered) -> None:
        """Queue a command.

        :param answered: called with its answer, or with None when there will be none.
        """
        library = self._library
        direction = (_DATA_OUT if command.writes else _DATA_IN) if command.length else _NO_DATA
        task = library.scsi_create_task(len(command.cdb), command.cdb, direction, command.length)
        self._sent += 1
        self._commands[self._sent] = (task, command, answered)
        if direction == _DATA_OUT:
            library.scsi_task_add_data_out_buffer(task, command.length, command.address)
        elif direction == _DATA_IN:
            library.scsi_task_add_data_in_buffer(task, command.length, command.address)
        if library.iscsi_scsi_command_async(
            self._context, lun, task, self._on_answer, None, self._sent
        ):
            self._fail()
            self._answered(None, _UNANSWERED, None, self._sent)

    def log_out(self) -> None:
        """Begin to log out."""
        if self._library.iscsi_logout_async(self._context, self._on_logout, None):
            self._fail()

    def close(self) -> None:
        """Hang up. What is unanswered is told so; afterwards nothing touches its memory."""
        context, self._context = self._context, None
        if context:
            self.ready = False
            self._library.iscsi_destroy_context(context)
            for number in list(self._commands):
                self._answered(None, _UNANSWERED, None, number)
            self._free_retired()

    def _all_is_sent(self) -> bool:
        unsent = self._library.iscsi_out_queue_length(self._context)
        return not unsent and not self.events & select.POLLOUT

    def _free_retired(self) -> None:
        # A target may answer a write before it has all of its data; what the library has queued
        # of it points into the task and into the caller's memory.
        retired, self._retired = self._retired, []
        for task, _command in retired:
            self._library.scsi_free_scsi_task(task)

    def _set_up(self, login: Login) -> None:
        library, context = self._library, self._context
        library.iscsi_set_noautoreconnect(context, 1)
        library.iscsi_set_session_type(context, _NORMAL_SESSION)
        library.iscsi_set_header_digest(context, _NO_DIGEST)
        library.iscsi_set_isid_random(context, login.isid, 0)
        library.iscsi_set_targetname(context, login.iqn.encode())
        chap = login.chap
        if chap is not None:
            library.iscsi_set_initiator_username_pwd(
                context, chap.user.encode(), chap.secret.encode()
            )
            if chap.mutual_user:
                library.iscsi_set_target_username_pwd(
                    context, chap.mutual_user.encode(), chap.mutual_secret.encode()
                )

    def _connected(self, _context: int, status: int, _data: int, _number: int) -> None:
        if status or self._library.iscsi_login_async(self._context, self._on_login, None):
            self._fail()

    def _logged_in(self, _context: int, status: int, _data: int, _number: int) -> None:
        if status == _REDIRECTED:
            self.moved_to = self._library.iscsi_get_target_address(self._context).decode()
        if status:
            self._fail()
        else:
            self.ready = self.was_ready = True

    def _logged_out(self, _context: int, _status: int, _data: int, _number: int) -> None:
        self._left = True

    def _answered(self, _context: int | None, status: int, _data: int | None, number: int) -> None:
        known = self._commands.pop(number, None)
        if known is None:
            return
        task, command, answered = known
        answer = None
        if status < _UNANSWERED:
            seen = libiscsi_abi.Task.from_address(task)
            missing = seen.residual if seen.residual_status == _UNDERFLOW else 0
            answer = scsi.Answer(status, seen.key, seen.code, missing)
        self._retired.append((task, command))
        answered(answer)

    def _fail(self, why: str = "") -> None:
        """Note why there is no session; the first reason is the true one."""
        self.ready = False
        if self.failure is not None or not self._context:
            return
        said = (self._library.iscsi_get_error(self._context) or b"").decode(errors="replace")
        found = re.search(r"Status: .*\((\d+)\)", said)
        kind = _REFUSALS.get(int(found[1])) if found else None
        if "CHAP_" in said or "CHAP target" in said:
            kind = exceptions.AccessDenied
        if "reconnect" in said:  # what is left to say after an answer that makes no sense
            said = "it breaks the protocol"
        self.failure = _failure(kind, self._iqn, self.portal, why or _printable(said))


def _failure(
    kind: type[exceptions.ContainerStackError] | None, iqn: str, portal: str, why: str
) -> exceptions.ContainerStackError:
    if kind is exceptions.AccessDenied:
        return kind(f"{iqn} refuses our initiator's name or secret, or its own is wrong.")
    if kind is exceptions.NotFound:
        return kind(f"There is no target {iqn} at {portal}, or it hides from our initiator.")
    return exceptions.ArrayUnavailable(f"{iqn} can't be reached at {portal}: {why}.")


def _printable(text: str) -> str:
    shown = "".join(each if each.isprintable() else " " for each in text)
    return shown.strip(" .")[:200] or "no reason given"
