# SPDX-License-Identifier: Apache-2.0
"""The simulator's volumes as targets of a real iSCSI server, Debian's tgt.

LUN 0 of each target is tgt's controller; the volume is LUN 1.
"""

import dataclasses
import ipaddress
import re
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from container_stack import exceptions
from container_stack.host import attach
from container_stack.testing.edf import tgt_control, tgt_export, tgtd
from container_stack.testing.edf.tgt_control import Mode, Operation

LUN = 1
#: tgtd hangs up on everybody while it has no target at all; this one is nobody's.
PLACEHOLDER = "iqn.2013-05.com.daterainc:nobody"
#: Bytes in one PDU from an initiator; tgtd's default of 8 KiB makes writes slow.
_SEGMENT = 1024**2
#: Seconds that initiators may keep a unit busy before they are cut off, and that it may take then.
_PATIENCE, _LIMIT = 3.0, 30.0


@dataclasses.dataclass(frozen=True, slots=True)
class _Session:
    sid: int
    cid: int
    initiator: str


class Targets:
    """Files as targets of one tgtd; threads may share it, and every method is idempotent.

    :param directory: for the server's socket and log.
    :param addresses: where it listens, at a free port each; they stay the same while it runs.
    """

    guarded = True

    def __init__(
        self, directory: Path, addresses: Sequence[str] = ("127.0.0.1", "127.0.0.2")
    ) -> None:
        self._server = tgtd.Server(directory, addresses)
        self._addresses = tuple(addresses)
        self._lock = threading.RLock()
        self._exports: dict[str, tgt_export.Export] = {}
        self._portals: tuple[str, ...] = ()
        self._lost: set[int] = set()

    @property
    def portals(self) -> tuple[str, ...]:
        """``address:port`` of each address; empty unless it was started."""
        return self._portals

    def start(self) -> None:
        """Start the server.

        :raises HostNotReady: tgt is missing, or doesn't start.
        """
        with self._lock:
            if self._portals:
                return
            self._server.start()
            try:
                self._order(Mode.TARGET, Operation.NEW, f"targetname={PLACEHOLDER}", tid=1)
                self._portals = self._listening()
            except BaseException:
                self._server.stop()
                raise

    def stop(self) -> None:
        """End the server with all its sessions; the files stay."""
        with self._lock:
            self._portals = ()
            self._exports.clear()
            self._lost.clear()
            self._server.stop()

    # Targets ------------------------------------------------------------------------------

    def export(
        self,
        iqn: str,
        file: Path,
        *,
        initiators: Iterable[str] | None,
        chap: attach.Chap | None = None,
        writable: bool = True,
    ) -> None:
        """Make a target, or change it to what is given here.

        :param initiators: who may log in, and nobody else; None: everybody. Whoever is there and
            may no more is cut off.
        :param chap: what logins, from now on, must know; and what the target answers if it has
            ``mutual_*``.
        :raises InvalidRequest: tgt can't express it: a comma in the file's path or a user's name,
            or one CHAP user with two secrets, as its users are those of all its targets.
        """
        names = None if initiators is None else frozenset(initiators)
        wanted = tgt_export.Export(0, file, names, chap, writable)
        with self._lock:
            others = {name: each for name, each in self._exports.items() if name != iqn}
            tgt_export.check(wanted, others.values())
            known = self._exports.get(iqn)
            if known is not None and (known.file, known.writable) != (file, writable):
                self.withdraw(iqn)
                known = None
            try:
                known = known or self._make(iqn, wanted)
                self._set_chap(iqn, chap)
                self._admit(iqn, wanted.initiators)
            except tgt_control.Refusal:
                self.withdraw(iqn)
                raise

    def withdraw(self, iqn: str) -> None:
        """Take a target away from under its initiators; the file stays."""
        with self._lock:
            if iqn not in self._exports:
                return
            self._admit(iqn, frozenset())
            self._set_chap(iqn, None)
            self._delete(iqn, Mode.TARGET, force=True)
            del self._exports[iqn]

    def grew(self, iqn: str) -> None:
        """Let a target have the size that its file has now; sessions live on.

        tgt can't let a unit grow, and so exchanges it for a larger one as soon as it has nothing
        to do. Who gives it no peace is cut off, to log in again. Until the new one is there, for
        less than a millisecond, commands are told that there is no such unit.
        """
        with self._lock:
            export = self._exports.get(iqn)
            if export is not None:
                self._delete(iqn, Mode.UNIT, lun=LUN)
                self._add_unit(export)

    def sessions(self, iqn: str) -> list[str]:
        """Return the names of the initiators that are logged in, one for each session."""
        with self._lock:
            return [each.initiator for each in self._sessions(iqn)]

    # Portals ------------------------------------------------------------------------------

    def lose_portal(self, index: int) -> None:
        """Cut a portal's connections and refuse new ones; those of other portals live on."""
        with self._lock:
            if index in self._lost:
                return
            self._order(Mode.PORTAL, Operation.DELETE, f"portal={self._portals[index]}")
            self._lost.add(index)
            self._server.cut(self._portals[index])

    def restore_portal(self, index: int) -> None:
        """Let a lost portal answer again, at the port that it had."""
        with self._lock:
            if index in self._lost:
                self._order(Mode.PORTAL, Operation.NEW, f"portal={self._portals[index]}")
                self._lost.discard(index)

    def _listening(self) -> tuple[str, ...]:
        shown = self._order(Mode.PORTAL, Operation.SHOW)
        found = [text.rpartition(",")[0] for text in re.findall(r"^Portal: (\S+)", shown, re.M)]
        ports = {tgtd.address(each)[0]: each for each in found}
        return tuple(ports[str(ipaddress.ip_address(each))] for each in self._addresses)

    # Steps --------------------------------------------------------------------------------

    def _make(self, iqn: str, wanted: tgt_export.Export) -> tgt_export.Export:
        """Make a target that nobody may use yet."""
        tid = max((each.tid for each in self._exports.values()), default=1) + 1
        self._order(Mode.TARGET, Operation.NEW, f"targetname={iqn}", tid=tid)
        made = dataclasses.replace(wanted, tid=tid, initiators=frozenset(), chap=None)
        self._exports[iqn] = made
        size = f"MaxRecvDataSegmentLength={_SEGMENT}"
        self._order(Mode.TARGET, Operation.UPDATE, size, tid=tid)
        self._add_unit(made)
        return made

    def _add_unit(self, export: tgt_export.Export) -> None:
        store = f"path={export.file},bstype=rdwr"
        self._order(Mode.UNIT, Operation.NEW, store, tid=export.tid, lun=LUN)
        kind = f"targetOps thin_provisioning=1,readonly={int(not export.writable)},"
        self._order(Mode.UNIT, Operation.UPDATE, kind, tid=export.tid, lun=LUN)

    def _set_chap(self, iqn: str, chap: attach.Chap | None) -> None:
        export = self._exports[iqn]
        changed = dataclasses.replace(export, chap=chap)
        old, new = export.accounts, changed.accounts
        others = {
            user
            for name, each in self._exports.items()
            if name != iqn
            for user, _secret, _outgoing in each.accounts
        }
        for user, _secret, outgoing in old - new:
            text = f"user={user}"
            self._order(Mode.ACCOUNT, Operation.UNBIND, text, tid=export.tid, outgoing=outgoing)
        self._exports[iqn] = changed
        kept = others | {user for user, _secret, _outgoing in old & new}
        for user in {user for user, _secret, _outgoing in old - new} - kept:
            self._order(Mode.ACCOUNT, Operation.DELETE, f"user={user}")
        for user, secret in {(user, secret) for user, secret, _outgoing in new - old}:
            if user not in kept:
                self._order(Mode.ACCOUNT, Operation.NEW, f"user={user},password={secret}")
        for user, _secret, outgoing in new - old:
            text = f"user={user}"
            self._order(Mode.ACCOUNT, Operation.BIND, text, tid=export.tid, outgoing=outgoing)

    def _admit(self, iqn: str, initiators: frozenset[str] | None) -> None:
        export = self._exports[iqn]
        changed = dataclasses.replace(export, initiators=initiators)
        old, new = export.rules, changed.rules
        for operation, rules in ((Operation.UNBIND, old - new), (Operation.BIND, new - old)):
            for rule in rules:
                self._order(Mode.TARGET, operation, rule, tid=export.tid)
        self._exports[iqn] = changed
        if initiators is None:
            return
        end = time.monotonic() + 10
        while lost := [each for each in self._sessions(iqn) if each.initiator not in initiators]:
            if time.monotonic() > end:
                raise exceptions.Busy(f"Sessions of {iqn} don't end.")
            for each in lost:
                self._cut(export.tid, each)
            time.sleep(0.01)

    def _cut(self, tid: int, session: _Session) -> None:
        try:
            sid, cid = session.sid, session.cid
            self._order(Mode.CONNECTION, Operation.DELETE, tid=tid, sid=sid, cid=cid)
        except tgt_control.Refusal:
            return  # it is gone already

    def _sessions(self, iqn: str) -> list[_Session]:
        export = self._exports.get(iqn)
        if export is None:
            return []
        shown = self._order(Mode.CONNECTION, Operation.SHOW, tid=export.tid)
        found, sid, cid = [], 0, 0
        for line in shown.splitlines():
            key, _, value = line.strip().partition(": ")
            if key == "Session":
                sid = int(value)
            elif key == "Connection":
                cid = int(value)
            elif key == "Initiator":
                found.append(_Session(sid, cid, value.split(" ")[0]))
        return found

    def _delete(self, iqn: str, mode: Mode, **which: object) -> None:
        """Delete a target or its unit once no command is under way; else tgt refuses."""
        tid, started = self._exports[iqn].tid, time.monotonic()
        while True:
            waited = time.monotonic() - started
            try:
                self._order(mode, Operation.DELETE, tid=tid, **which)
            except tgt_control.Refusal as exc:
                if exc.code != tgt_control.UNIT_ACTIVE or waited > _LIMIT:
                    raise
            else:
                return
            if waited > _PATIENCE:
                for each in self._sessions(iqn):
                    self._cut(tid, each)
            time.sleep(0.0005)

    def _order(self, *arguments: object, **options: object) -> str:
        return self._server.control.order(*arguments, **options)  # type: ignore[arg-type]
