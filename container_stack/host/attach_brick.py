# SPDX-License-Identifier: Apache-2.0
"""Targets through the kernel's initiator: os-brick, open-iscsi and, if wanted, multipath.

How os-brick gets root. It would start a daemon of oslo.privsep, whose one context runs any command
for its caller: a service that may start it is root. So os-brick doesn't run in the service, but in
``container-stack-brick`` (:mod:`container_stack.rootwrap.brick`), which a root helper starts:
sudo alone, or sudo with a rootwrap that has our filter, which admits that program without
arguments and nothing else. It takes three kinds of request and hands back the OPEN device. So

- no device node is given to the service's user, not for a moment, and no other disk can be had;
- CHAP secrets stand in no command line and in no log;
- a request that hangs (iscsiadm, multipathd) is killed with its processes when its time is over;
- when the service goes, kill -9 included, its targets are detached;
- several processes may attach one target: the last logs out.

A single path that breaks fails after the options' timeout. With ``multipath`` the other paths go
on after some 5 seconds; when none is left, reads and writes are repeated for the same timeout, if
multipathd's ``no_path_retry`` doesn't make them wait (``queue``: for ever).
"""

import contextlib
import dataclasses
import errno
import fcntl
import importlib.util
import logging
import os
import shlex
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self, TypeVar

from container_stack import exceptions
from container_stack.host import attach, attach_ranges, brick_helper, direct
from container_stack.rootwrap import brick_wire, commands, config, executor

LOG = logging.getLogger(__name__)

#: Seconds between repetitions of what failed: a target that exchanges its volume for a larger one
#: has none for a moment (tgt), which the kernel takes for a failure.
PAUSES = (0.02, 0.1, 0.5)

_Result = TypeVar("_Result")


class BrickAttacher(attach.Attacher):
    """The kernel's initiator, driven by os-brick as root.

    :raises InvalidRequest: the options' timeout is out of range.
    """

    def __init__(self, options: attach.Options) -> None:
        self._options = options
        self._helper = brick_helper.shared(helper_command(options))
        self._initiator = ""

    @classmethod
    def open(cls, options: attach.Options) -> Self:
        """The entry point's factory."""
        return cls(options)

    @property
    def initiator(self) -> str:
        """This host's name, which stands in open-iscsi's configuration."""
        if not self._initiator:
            self.check()
        return self._initiator

    def attach(self, target: attach.Target, *, read_only: bool = False) -> attach.BlockDevice:
        request = _connect(self._options, target, read_only)
        if self._options.initiator and not self._initiator:
            self.check()
        _answer, descriptors = self._ask(request)
        with contextlib.ExitStack() as undo:
            undo.callback(self._ask, dataclasses.replace(request, action="disconnect"))
            for each in descriptors:
                undo.callback(os.close, each)
            try:
                device = _BrickDevice(self._helper, request, descriptors)
            except OSError as exc:
                raise exceptions.ArrayUnavailable(f"{target.iqn} has gone at once.") from exc
            undo.pop_all()
        LOG.info("Attached %(iqn)s", {"iqn": target.iqn})
        return device

    def check(self) -> Mapping[str, str]:
        request = brick_wire.Request(
            "check", multipath=self._options.multipath, timeout=float(self._options.timeout)
        )
        try:
            answer, _descriptors = self._ask(request)
        except exceptions.ArrayUnavailable as exc:
            raise exceptions.HostNotReady(f"{exc} See what iscsid and multipathd do.") from exc
        wanted = self._options.initiator or answer["initiator"]
        if wanted != answer["initiator"]:
            raise exceptions.HostNotReady(
                f"The kernel's initiator is {answer['initiator']}, not {wanted}: leave the option "
                "unset, or change /etc/iscsi/initiatorname.iscsi."
            )
        self._initiator = str(wanted)
        return dict(answer["found"])

    def _ask(self, request: brick_wire.Request) -> tuple[Mapping[str, Any], list[int]]:
        _need_programs()
        try:
            return self._helper.ask(request)
        except exceptions.RootHelperUnavailable as exc:
            raise exceptions.HostNotReady(
                f"{exc} `container-stack rootwrap install --driver glance --user USER` lets USER "
                "attach."
            ) from exc


class _BrickDevice(attach.BlockDevice):
    """An open block device.

    :param descriptors: the device's, and that of the lock which tells others that we use it.
    """

    def __init__(
        self, helper: brick_helper.Helper, request: brick_wire.Request, descriptors: list[int]
    ) -> None:
        self._helper = helper
        self._request = request
        self._device, self._holder = descriptors
        #: Only its own process detaches it; a forked child has nothing but copies.
        self._process = os.getpid()
        self._free = threading.Condition()
        self._users = 0
        self._closed = False
        self._direct = direct.DirectDevice(self._device)
        self._size = os.lseek(self._device, 0, os.SEEK_END)

    @property
    def size(self) -> int:
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        attach_ranges.check(self._size, offset, length)
        with self._using():
            return self._patiently(lambda: self._direct.read(offset, length))

    def write(self, offset: int, data: attach.Buffer) -> None:
        view = memoryview(data).cast("B")
        attach_ranges.check(self._size, offset, len(view))
        if self._request.read_only:
            raise exceptions.InvalidRequest(f"{self._request.iqn} is attached for reading only.")
        with self._using():
            self._patiently(lambda: self._direct.write(offset, view))

    def flush(self) -> None:
        with self._using():
            self._direct.flush()

    def refresh(self) -> int:
        with self._using():
            self._helper.ask(dataclasses.replace(self._request, action="resize"))
            self._size = os.lseek(self._device, 0, os.SEEK_END)
        return self._size

    def close(self) -> None:
        with self._free:
            if self._closed:
                return
            self._closed = True
            self._free.wait_for(lambda: not self._users)
        os.close(self._device)
        mine = os.getpid() == self._process
        if mine:
            # A child that was forked meanwhile has a copy, which would keep the lock.
            fcntl.flock(self._holder, fcntl.LOCK_UN)
        os.close(self._holder)
        if mine:
            self._detach()

    def _detach(self) -> None:
        iqn = self._request.iqn
        try:
            self._helper.ask(dataclasses.replace(self._request, action="disconnect"))
        except exceptions.ContainerStackError as exc:
            # The helper tries again when this process ends.
            LOG.warning("%(iqn)s isn't detached: %(why)s", {"iqn": iqn, "why": exc})
        else:
            LOG.info("Detached %(iqn)s", {"iqn": iqn})

    def _patiently(self, action: Callable[[], _Result]) -> _Result:
        for pause in self._pauses(time.monotonic()):
            try:
                return action()
            except OSError as exc:
                if exc.errno != errno.EIO:
                    raise
                time.sleep(pause)
        return action()

    def _pauses(self, begun: float) -> Iterator[float]:
        yield from PAUSES
        # The kernel waits for the only path of a device; for one of several nobody does.
        while self._request.several and time.monotonic() < begun + self._request.timeout:
            yield PAUSES[-1]

    @contextlib.contextmanager
    def _using(self) -> Iterator[None]:
        """Keep the device open, and translate its errors."""
        iqn = self._request.iqn
        with self._free:
            if self._closed:
                raise exceptions.InvalidRequest(f"{iqn} isn't attached any more.")
            self._users += 1
        try:
            yield
        except OSError as exc:
            if exc.errno == errno.ENOSPC:
                raise exceptions.NoSpace(f"The array has no space for {iqn}.") from exc
            raise exceptions.ArrayUnavailable(f"{iqn} fails: {exc.strerror}.") from exc
        finally:
            with self._free:
                self._users -= 1
                self._free.notify_all()


def helper_command(options: attach.Options) -> tuple[str, ...]:
    """Return what starts the helper: as root itself, else by default sudo and our rootwrap."""
    if os.geteuid() == 0:
        return (sys.executable, "-m", "container_stack.rootwrap.brick")
    rootwrap = ("sudo", "-n", "container-stack-rootwrap")
    words = shlex.split(options.root_helper)
    words = words or [*rootwrap, options.rootwrap_config or executor.CONFIG]
    return (*words, *commands.programs.BRICK.argv())


def _connect(options: attach.Options, target: attach.Target, read_only: bool) -> brick_wire.Request:
    chap = target.chap or attach.Chap("", "")
    return brick_wire.Request(
        "connect",
        key=uuid.uuid4().hex,
        iqn=target.iqn,
        portals=target.portals,
        lun=target.lun,
        user=chap.user,
        secret=chap.secret,
        mutual_user=chap.mutual_user,
        mutual_secret=chap.mutual_secret,
        multipath=options.multipath,
        read_only=read_only,
        timeout=float(options.timeout),
        host=brick_wire.HOST,
    )


def _need_programs() -> None:
    """Say quickly what is missing, where a helper would say so after a second.

    :raises HostNotReady: something is.
    """
    if importlib.util.find_spec("os_brick") is None:
        raise exceptions.HostNotReady(
            "os-brick is missing; install container-stack[glance] with pip."
        )
    if not shutil.which("iscsiadm", path=config.EXEC_DIRS.replace(",", os.pathsep)):
        raise exceptions.HostNotReady("iscsiadm is missing; install open-iscsi.")
