# SPDX-License-Identifier: Apache-2.0
"""The simulator's targets, as the programs of libiscsi see them."""

import concurrent.futures
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.host import attach, attach_libiscsi
from container_stack.testing.edf import tgt, tgtd

MIB = 1024**2
IQN = "iqn.2013-05.com.daterainc:cstest:one"
ME, STRANGER = "iqn.2026-11.test:me", "iqn.2026-11.test:stranger"
CHAP = attach.Chap("image-store", "a-secret-of-ours")
MUTUAL = attach.Chap("image-store", "a-secret-of-ours", "the-array", "a-secret-of-its")


@pytest.fixture
def targets(tmp_path: Path) -> Iterator[tgt.Targets]:
    made = tgt.Targets(tmp_path / "a directory whose name is too long for a socket" / ("x" * 80))
    made.start()
    yield made
    made.stop()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return make(tmp_path / "volume.img", 64 * MIB)


def make(file: Path, size: int) -> Path:
    file.touch()
    os.truncate(file, size)
    return file


def size(portal, iqn=IQN, initiator=ME, credentials=""):
    """Return a volume's size as a foreign initiator sees it, or what the target says instead."""
    url = f"iscsi://{credentials}{portal}/{iqn}/{tgt.LUN}"
    ended = subprocess.run(
        ["iscsi-readcapacity16", "-i", initiator, url], capture_output=True, text=True, timeout=30
    )
    found = re.search(r"Total size:(\d+)", ended.stdout)
    return int(found[1]) if found else ended.stderr


def listed(portal, initiator=ME):
    ended = subprocess.run(
        ["iscsi-ls", "-i", initiator, f"iscsi://{portal}"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    return re.findall(r"Target:(\S+)", ended.stdout)


def device(targets, initiator=ME, chap=None, portals=None):
    options = attach.Options(initiator=initiator, timeout=3.0)
    target = attach.Target(IQN, portals or targets.portals, chap=chap)
    return attach_libiscsi.LibiscsiAttacher.open(options).attach(target)


# Who may log in -----------------------------------------------------------------------------


def test_each_portal_leads_to_the_volume(targets, file):
    targets.export(IQN, file, initiators=[ME])
    assert [size(each) for each in targets.portals] == [64 * MIB, 64 * MIB]
    assert [each.rpartition(":")[0] for each in targets.portals] == ["127.0.0.1", "127.0.0.2"]


def test_stranger_sees_nothing(targets, file):
    targets.export(IQN, file, initiators=[ME])
    assert "Target not found" in size(targets.portals[0], initiator=STRANGER)
    assert listed(targets.portals[0], STRANGER) == []
    assert listed(targets.portals[0]) == [IQN]


def test_nobody_may_use_what_is_exported_to_nobody(targets, file):
    targets.export(IQN, file, initiators=[])
    assert "Target not found" in size(targets.portals[0])


def test_portals_answer_before_there_is_a_target(targets):
    assert "Target not found" in size(targets.portals[0])
    assert listed(targets.portals[1]) == []


def test_exporting_again_changes_who_may_log_in(targets, file):
    targets.export(IQN, file, initiators=[ME])
    targets.export(IQN, file, initiators=[STRANGER])
    assert size(targets.portals[0], initiator=STRANGER) == 64 * MIB
    assert "Target not found" in size(targets.portals[0])


def test_who_may_no_more_is_cut_off_and_others_stay(targets, file):
    targets.export(IQN, file, initiators=[ME, STRANGER])
    with device(targets) as mine, device(targets, STRANGER) as other:
        assert sorted(targets.sessions(IQN)) == sorted([ME, STRANGER])
        targets.export(IQN, file, initiators=[ME])
        assert targets.sessions(IQN) == [ME]
        mine.write(0, b"still there")
        with pytest.raises(exceptions.ContainerStackError):
            other.read(0, 512)
        assert targets.sessions(IQN) == [ME]


def test_who_logged_out_has_no_session(targets, file):
    targets.export(IQN, file, initiators=[ME])
    device(targets).close()
    deadline = time.monotonic() + 5
    while targets.sessions(IQN) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert targets.sessions(IQN) == []


# CHAP ---------------------------------------------------------------------------------------


def test_secret_is_asked_for(targets, file):
    targets.export(IQN, file, initiators=[ME], chap=CHAP)
    portal = targets.portals[0]
    assert size(portal, credentials="image-store%a-secret-of-ours@") == 64 * MIB
    assert "Authentication failure" in size(portal, credentials="image-store%another-secret@")
    assert "Authentication failure" in size(portal, credentials="somebody%a-secret-of-ours@")
    assert "Authentication failure" in size(portal)


def test_secret_can_be_changed_and_dropped(targets, file):
    targets.export(IQN, file, initiators=[ME], chap=CHAP)
    targets.export(IQN, file, initiators=[ME], chap=attach.Chap("image-store", "the-new-secret"))
    portal = targets.portals[0]
    assert "failure" in size(portal, credentials="image-store%a-secret-of-ours@")
    assert size(portal, credentials="image-store%the-new-secret@") == 64 * MIB
    targets.export(IQN, file, initiators=[ME])
    assert size(portal) == 64 * MIB


def test_target_shows_that_it_knows_its_own_secret(targets, file):
    targets.export(IQN, file, initiators=[ME], chap=MUTUAL)
    device(targets, chap=MUTUAL).close()
    wrong = attach.Chap(MUTUAL.user, MUTUAL.secret, MUTUAL.mutual_user, "not-the-arrays")
    with pytest.raises(exceptions.AccessDenied):
        device(targets, chap=wrong)


def test_targets_may_share_a_user_and_lose_it_one_by_one(targets, file, tmp_path):
    other = make(tmp_path / "other.img", 3 * MIB)
    targets.export(IQN, file, initiators=[ME], chap=CHAP)
    targets.export(f"{IQN}-2", other, initiators=[ME], chap=CHAP)
    targets.withdraw(IQN)
    secret = "image-store%a-secret-of-ours@"
    assert size(targets.portals[0], f"{IQN}-2", credentials=secret) == 3 * MIB
    with pytest.raises(exceptions.InvalidRequest, match="image-store") as refusal:
        targets.export(IQN, file, initiators=[ME], chap=attach.Chap("image-store", "different"))
    assert "different" not in str(refusal.value)
    assert listed(targets.portals[0]) == [f"{IQN}-2"]


def test_secret_is_in_no_argument_nor_log(targets, file, tmp_path):
    targets.export(IQN, file, initiators=[ME], chap=CHAP)
    size(targets.portals[0], credentials="image-store%wrong-guess@")
    logs = [path.read_text() for path in tmp_path.rglob("*.log")]
    assert logs
    assert not any("a-secret" in each for each in logs)


# Volumes ------------------------------------------------------------------------------------


def test_volume_is_gone_when_it_is_withdrawn_and_comes_back(targets, file):
    targets.export(IQN, file, initiators=[ME])
    with device(targets) as mine:
        mine.write(0, b"kept")
        for _ in range(2):
            targets.withdraw(IQN)
        assert targets.sessions(IQN) == []
        assert "Target not found" in size(targets.portals[0])
        targets.export(IQN, file, initiators=[ME])
        assert mine.read(0, 4) == b"kept"


def test_volume_is_withdrawn_from_under_commands(targets, file):
    targets.export(IQN, file, initiators=[ME])

    def write() -> int:
        count = 0
        with device(targets) as mine:
            while True:
                try:
                    mine.write(0, bytes(8 * MIB))
                except exceptions.ContainerStackError:
                    return count
                count += 1

    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        writes = [threads.submit(write) for _ in range(2)]
        time.sleep(0.7)
        targets.withdraw(IQN)
        assert all(each.result(60) for each in writes)
    targets.export(IQN, file, initiators=[ME])
    assert size(targets.portals[0]) == 64 * MIB


def test_volume_grows_while_it_is_read_and_written(targets, file):
    targets.export(IQN, file, initiators=[ME])
    stop, attached = threading.Event(), threading.Barrier(3)

    def use(offset: int) -> int:
        data, count = os.urandom(4 * MIB), 0
        with device(targets) as mine:
            attached.wait(10)
            while not stop.is_set():
                mine.write(offset, data)
                assert mine.read(offset, len(data)) == data
                count += 1
        return count

    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        uses = [threads.submit(use, number * 8 * MIB) for number in range(2)]
        attached.wait(10)
        try:
            for number in range(40):
                os.truncate(file, (65 + number) * MIB)
                targets.grew(IQN)
                assert size(targets.portals[1]) == (65 + number) * MIB
        finally:
            stop.set()
        assert all(each.result(60) for each in uses)


def test_what_is_unmapped_takes_no_room(targets, file):
    tester = "iqn.2007-10.com.github:sahlberg:libiscsi:iscsi-test"
    targets.export(IQN, file, initiators=[tester])
    url = f"iscsi://{targets.portals[0]}/{IQN}/{tgt.LUN}"
    argv = ["iscsi-test-cu", "-i", tester, "--dataloss", "-t", "SCSI.Unmap.Simple", url]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert "Test: Simple ...passed" in ended.stdout
    assert ended.returncode == 0, ended.stdout
    assert file.stat().st_blocks * 512 < MIB


def test_volume_can_be_read_only(targets, file):
    targets.export(IQN, file, initiators=[ME], writable=False)
    with device(targets) as mine, pytest.raises(exceptions.ContainerStackError):
        mine.write(0, b"x")
    targets.export(IQN, file, initiators=[ME])
    with device(targets) as mine:
        mine.write(0, b"x")


# Portals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [0, 1])
def test_lost_portal_takes_its_sessions_along_and_no_others(targets, file, index):
    targets.export(IQN, file, initiators=[ME, STRANGER])
    kept = targets.portals[1 - index]
    with device(targets, portals=(kept,)) as mine:
        with device(targets, STRANGER, portals=(targets.portals[index],)):
            for _ in range(2):
                targets.lose_portal(index)
            deadline = time.monotonic() + 5
            while STRANGER in targets.sessions(IQN) and time.monotonic() < deadline:
                time.sleep(0.01)
            assert targets.sessions(IQN) == [ME]
            assert "Login Failed" in size(targets.portals[index])
            assert size(kept) == 64 * MIB
            mine.write(0, b"by the other")
            for _ in range(2):
                targets.restore_portal(index)
        assert size(targets.portals[index]) == 64 * MIB


# The server ---------------------------------------------------------------------------------


def test_stopping_leaves_nothing(tmp_path, file):
    targets = tgt.Targets(tmp_path / "server")
    targets.start()
    targets.start()
    targets.export(IQN, file, initiators=[ME])
    with device(targets) as mine:
        mine.write(0, b"kept")
        before = children()
        targets.stop()
        targets.stop()
    assert len(before) == len(children()) + 1
    assert [path.name for path in (tmp_path / "server").iterdir()] == ["tgtd.log"]
    assert file.read_bytes()[:4] == b"kept"
    targets.start()
    targets.export(IQN, file, initiators=[ME])
    assert size(targets.portals[0]) == 64 * MIB
    targets.stop()


def test_two_servers_do_not_disturb_each_other(targets, file, tmp_path):
    other = tgt.Targets(tmp_path / "other")
    other.start()
    try:
        targets.export(IQN, file, initiators=[ME])
        assert "Target not found" in size(other.portals[0])
    finally:
        other.stop()
    assert size(targets.portals[0]) == 64 * MIB


def test_server_ends_with_the_process_that_started_it(tmp_path):
    script = (
        "import pathlib, sys, threading, time\n"
        "from container_stack.testing.edf import tgt\n"
        "targets = tgt.Targets(pathlib.Path(sys.argv[1]))\n"
        "starter = threading.Thread(target=targets.start); starter.start(); starter.join()\n"
        "print(*targets.portals, flush=True)\n"
        "time.sleep(60)\n"
    )
    argv = [sys.executable, "-c", script, str(tmp_path / "server")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        portal = process.stdout.readline().split()[0]
        time.sleep(0.3)  # the thread that started it is gone by now
        assert "Target not found" in size(portal)
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while "Target not found" in size(portal):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_host_without_tgt_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(tgtd.shutil, "which", lambda *_args, **_options: None)
    with pytest.raises(exceptions.HostNotReady, match="apt-get install tgt"):
        tgt.Targets(tmp_path).start()


def test_comma_in_a_path_is_refused(targets, tmp_path):
    with pytest.raises(exceptions.InvalidRequest, match="comma"):
        targets.export(IQN, make(tmp_path / "a,b.img", MIB), initiators=[ME])


def children() -> list[str]:
    tasks = Path("/proc/self/task").glob("*/children")
    return [pid for task in tasks for pid in task.read_text().split()]
