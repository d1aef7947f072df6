# SPDX-License-Identifier: Apache-2.0
"""Records outlive their process, and are nobody else's while it lives."""

import multiprocessing
import os
import signal

import pytest

from container_stack import exceptions
from container_stack.imagestore import journal


@pytest.fixture
def records(tmp_path):
    return journal.Journal(str(tmp_path), "192.0.2.7", "/root/images")


def _note_and_die(directory, uuid, held):
    entry = journal.Journal(directory, "192.0.2.7", "/root/images").take("one")
    entry.note(uuid)
    held.set()
    signal.pause()


def left(records):
    found = {}
    for entry in records.left():
        with entry:
            found[entry.image_id] = entry.noted()
    return found


def test_record_is_the_holders_while_it_lives_and_anybodys_after_its_death(records, tmp_path):
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    child = context.Process(target=_note_and_die, args=(str(tmp_path), "u-1", held))
    child.start()
    assert held.wait(30)
    assert left(records) == {}
    with pytest.raises(exceptions.Busy):
        records.take("one")
    child.kill()
    child.join()
    assert left(records) == {"one": {"u-1"}}
    entry = records.take("one")
    assert entry.noted() == {"u-1"}
    entry.forget()
    assert left(records) == {}


def test_threads_exclude_each_other_as_processes_do(records):
    entry = records.take("one")
    with pytest.raises(exceptions.Busy):
        records.take("one")
    records.take("two").forget()
    entry.release()
    entry.release()
    records.take("one").forget()
    assert left(records) == {}


def test_record_that_is_left_stays_and_a_forgotten_one_goes(records):
    with records.take("one") as one, records.take("two") as two:
        one.note("u-1")
        two.note("u-2")
        two.forget()
    with records.take("one") as one:
        one.note("u-3")
        assert one.age() < 60
    assert left(records) == {"one": {"u-1", "u-3"}}


def test_other_arrays_and_tenants_are_not_seen(records, tmp_path):
    entry = records.take("one")
    entry.note("u-1")
    entry.release()
    for array in (("192.0.2.8", "/root/images"), ("192.0.2.7", "/root")):
        assert left(journal.Journal(str(tmp_path), *array)) == {}


def test_torn_line_hides_no_other(records):
    with records.take("one") as entry:
        entry.note("u-1")
        path = os.path.join(records.directory, "uploads", "one")
        with open(path, "ab") as file:
            file.write(b"\nu-\xff\0")
        entry.note("u-2")
    assert left(records)["one"] > {"u-1", "u-2"}


@pytest.mark.parametrize("image_id", ["", ".", "../up", "a/b", "-x", "x" * 41, "ä", "a\n"])
def test_id_that_could_name_something_else_is_refused(records, image_id):
    with pytest.raises(exceptions.InvalidRequest):
        records.take(image_id)


def test_directory_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(exceptions.HostNotReady, match="Not a directory"):
        journal.Journal(str(tmp_path / "file"), "a").take("one")
