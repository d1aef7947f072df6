# SPDX-License-Identifier: Apache-2.0
"""Files on their way: whole or not at all, and on from where they stopped."""

import hashlib
import os
import random
import resource

import pytest

from container_stack import exceptions
from container_stack.host import locks
from container_stack.storlets import objects
from container_stack.storlets.store import receiving, transfer
from container_stack.testing import objects as memory

DATA = random.Random(5).randbytes(3_000_017)
OTHER = DATA[::-1]
SEGMENT = 700_000
DOWN = exceptions.ServiceUnavailable("The store is down.")
IMAGES, SEGMENTS = "docker_images", "docker_images_segments"


@pytest.fixture
def store():
    made = memory.MemoryObjects()
    made.set_container(IMAGES, {})
    made.set_container(SEGMENTS, {})
    return made


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "image.tar"
    file.write_bytes(DATA)
    return str(file)


@pytest.fixture
def target(tmp_path):
    directory = tmp_path / "there"
    directory.mkdir()
    return directory / "got.tar"


def upload(store, path, size=SEGMENT, **more):
    return transfer.upload(store, IMAGES, "a.tar", path, segment_size=size, **more)


def download(store, target, **more):
    return transfer.download(store, IMAGES, "a.tar", str(target), **more)


def content(store, name="a.tar"):
    return b"".join(store.read(IMAGES, name))


def segments(store):
    return [each.name for each in store.list(SEGMENTS)]


def written(store):
    return [each.name for each in store.cloud.requests if each.operation == "write"]


# Uploads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [SEGMENT, len(DATA), len(DATA) - 1, len(DATA) + 1, 3001])
def test_uploaded_file_is_an_object_with_its_digest(store, path, size):
    done = upload(store, path, size, metadata={"Image-Name": "one"})
    sha256 = hashlib.sha256(DATA).hexdigest()
    assert content(store) == DATA
    assert done.sha256 == sha256
    assert done.moved == done.object.size == len(DATA)
    assert done.object == store.head(IMAGES, "a.tar")
    assert done.object.metadata == {"image-name": "one", "sha256": sha256}
    assert done.object.content_type == "application/x-tar"
    assert len(segments(store)) == (0 if size >= len(DATA) else -(-len(DATA) // size))


def test_empty_file_is_an_empty_object(store, tmp_path):
    (tmp_path / "empty").touch()
    assert upload(store, str(tmp_path / "empty")).object.size == 0
    assert content(store) == b""


@pytest.mark.parametrize("size", [SEGMENT, len(DATA)])
def test_what_is_there_is_not_sent_again_and_gets_the_new_metadata(store, path, size):
    upload(store, path, size, metadata={"image-name": "one", "other": "x"})
    done = upload(store, path, size, metadata={"image-name": "two"})
    assert done.moved == 0
    assert done.object.metadata == {"image-name": "two", "sha256": done.sha256}
    assert content(store) == DATA


def test_upload_that_broke_off_sends_only_the_rest(store, path):
    store.write(IMAGES, "a.tar", b"old")
    store.faults.append(memory.Fault(DOWN, "write", prefix=SEGMENTS, skip=2))
    with pytest.raises(exceptions.ServiceUnavailable):
        upload(store, path)
    assert content(store) == b"old"
    store.cloud.requests.clear()
    done = upload(store, path)
    assert content(store) == DATA
    assert done.moved == len(DATA) - 2 * SEGMENT
    assert len(written(store)) == 3


def test_segment_that_is_not_what_it_should_be_is_sent_again(store, path):
    upload(store, path)
    damaged = segments(store)[1]
    store.write(SEGMENTS, damaged, bytes(SEGMENT))
    assert upload(store, path).moved == SEGMENT
    assert content(store) == DATA


def test_nothing_changes_before_the_manifest_is_written(store, path, tmp_path):
    upload(store, path)
    (tmp_path / "other").write_bytes(OTHER)
    store.faults.append(memory.Fault(DOWN, "write_manifest"))
    with pytest.raises(exceptions.ServiceUnavailable):
        upload(store, str(tmp_path / "other"))
    assert content(store) == DATA
    assert upload(store, str(tmp_path / "other")).moved == 0
    assert content(store) == OTHER


@pytest.mark.parametrize("size", [SEGMENT, len(DATA)])
def test_segments_of_the_object_before_are_removed(store, path, tmp_path, size):
    upload(store, path)
    before = segments(store)
    (tmp_path / "other").write_bytes(OTHER)
    upload(store, str(tmp_path / "other"), size)
    assert content(store) == OTHER
    assert not set(before) & set(segments(store))
    store.remove(IMAGES, "a.tar")
    assert segments(store) == []


def test_segments_of_another_client_are_removed_too(store, path):
    theirs = f"a.tar/slo/1414266426.88/{len(DATA)}/9/00000000"
    etag = store.write(SEGMENTS, theirs, DATA)
    made = objects.Segment(SEGMENTS, theirs, etag, len(DATA))
    store.write_manifest(IMAGES, "a.tar", [made])
    upload(store, path)
    assert theirs not in segments(store)


def test_segments_of_an_abandoned_upload_are_swept_and_nothing_else(store, path, tmp_path):
    kept = ["a.tar", "a.tarx/" + "0" * 32 + "-7/00000000", "a.tar/b/" + "0" * 32 + "-7/00000000"]
    for name in kept:
        store.write(SEGMENTS, name, b"another object's")
    store.faults.append(memory.Fault(DOWN, "write", prefix=SEGMENTS, skip=3))
    with pytest.raises(exceptions.ServiceUnavailable):
        upload(store, path)
    assert len(segments(store)) == 6
    (tmp_path / "other").write_bytes(OTHER)
    upload(store, str(tmp_path / "other"), 2_000_000)
    assert len(segments(store)) == 5
    assert set(kept) < set(segments(store))


def test_manifest_that_names_others_objects_does_not_have_them_removed(store, path):
    etag = store.write(IMAGES, "b.tar", b"precious")
    stolen = [objects.Segment(IMAGES, "b.tar", etag, 8)]
    etag = store.write(SEGMENTS, "b.tar/1", b"precious, too")
    stolen.append(objects.Segment(SEGMENTS, "b.tar/1", etag, 13))
    store.write_manifest(IMAGES, "a.tar", stolen)
    upload(store, path)
    assert content(store, "b.tar") == b"precious"
    assert "b.tar/1" in segments(store)


def test_upload_whose_sweep_fails_has_succeeded(store, path, caplog):
    upload(store, path)
    store.faults.append(memory.Fault(DOWN, "remove"))
    upload(store, path, 900_000)
    assert content(store) == DATA
    assert "left for later" in caplog.text
    upload(store, path, 900_000)
    assert len(segments(store)) == 4


@pytest.mark.parametrize("size", [SEGMENT, len(DATA)])
def test_file_that_changes_meanwhile_changes_nothing(store, path, size):
    store.write(IMAGES, "a.tar", b"old")

    def change(what, _done, _total):
        if what.startswith("Uploading") and os.path.getsize(path):
            os.truncate(path, 0)
            os.truncate(path, len(DATA))

    with pytest.raises(exceptions.InvalidRequest):
        upload(store, path, size, progress=change)
    assert content(store) == b"old"


def test_lost_answer_to_the_manifest_is_made_good(store, path):
    store.faults.append(memory.Fault(DOWN, "write_manifest", done=True))
    with pytest.raises(exceptions.ServiceUnavailable):
        upload(store, path)
    assert upload(store, path).moved == 0
    assert content(store) == DATA


def test_guest_uploads_by_acls_alone(store, path):
    guest = store.to(store.account, "ops:deployer")
    acls = {"X-Container-Read": guest.user, "X-Container-Write": guest.user}
    for name in (IMAGES, SEGMENTS):
        store.set_container(name, acls)
    upload(guest, path)
    assert content(store) == DATA


def test_container_for_segments_is_made_by_who_may(store, path):
    store.set_container("private", {})
    transfer.upload(store, "private", "a.tar", path, segment_size=SEGMENT)
    assert b"".join(store.read("private", "a.tar")) == DATA


def test_small_object_needs_no_container_for_segments(store, path):
    store.set_container("private", {})
    transfer.upload(store, "private", "a.tar", path)
    assert b"".join(store.read("private", "a.tar")) == DATA


def test_what_cannot_be_uploaded_is_told(store, path, tmp_path):
    for wrong, size in (
        (str(tmp_path), SEGMENT),
        (str(tmp_path / "none"), SEGMENT),
        (path, 0),
        (path, 3000),
        (path, transfer.LARGEST_SEGMENT + 1),
    ):
        with pytest.raises(exceptions.InvalidRequest):
            upload(store, wrong, size)
    store.set_container(IMAGES, {"X-Container-Meta-Quota-Bytes": "10"})
    with pytest.raises(exceptions.NoSpace):
        upload(store, path, len(DATA))


def test_upload_tells_its_progress(store, path):
    told = []
    upload(store, path, progress=lambda *what: told.append(what))
    for what in ("Hashing a.tar", "Uploading a.tar"):
        seen = [done for told_of, done, _total in told if told_of == what]
        assert seen == sorted(seen)
        assert seen[-1] == len(DATA)
    assert {total for _what, _done, total in told} == {len(DATA)}


# Downloads -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [SEGMENT, len(DATA)])
def test_downloaded_file_is_the_object(store, path, target, size):
    upload(store, path, size)
    done = download(store, target)
    assert target.read_bytes() == DATA
    assert (done.sha256, done.moved) == (hashlib.sha256(DATA).hexdigest(), len(DATA))
    assert done.object == store.head(IMAGES, "a.tar")
    assert os.listdir(target.parent) == [target.name]
    target.write_bytes(b"old")
    download(store, target)
    assert target.read_bytes() == DATA


def test_empty_object_is_an_empty_file(store, target):
    store.write(IMAGES, "a.tar", b"")
    download(store, target)
    assert target.read_bytes() == b""


@pytest.mark.parametrize("size", [SEGMENT, len(DATA)])
def test_download_that_breaks_off_goes_on_by_itself(store, path, target, size):
    upload(store, path, size)
    for after in (1_000_000, 0, 0, 1_000_000):
        store.faults.append(memory.Fault(DOWN, "read", after=after))
    assert download(store, target).moved == len(DATA)
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("size", [SEGMENT, len(DATA)])
def test_next_download_goes_on_where_one_died(store, path, target, size):
    upload(store, path, size)

    class Died(BaseException):
        pass

    store.faults.append(memory.Fault(Died(), "read", after=1_234_567))
    with pytest.raises(Died):
        download(store, target)
    assert not target.exists()
    done = download(store, target)
    assert done.moved == len(DATA) - 1_234_567
    assert target.read_bytes() == DATA
    assert os.listdir(target.parent) == [target.name]


def test_store_that_stays_down_ends_the_download_and_what_came_is_kept(store, path, target):
    upload(store, path)
    store.faults.append(memory.Fault(DOWN, "read", after=1_000_000))
    store.faults.append(memory.Fault(DOWN, "read", times=receiving.TRIES))
    with pytest.raises(exceptions.ServiceUnavailable, match="1000000"):
        download(store, target)
    assert download(store, target).moved == len(DATA) - 1_000_000


@pytest.mark.parametrize("size", [SEGMENT, len(DATA)])
def test_object_that_is_replaced_meanwhile_is_begun_again(store, path, target, tmp_path, size):
    (tmp_path / "other").write_bytes(OTHER)
    upload(store, path, size)
    store.faults.append(memory.Fault(DOWN, "read", after=1_000_000))
    replaced = []

    def replace(what, done, _total):
        if done >= 1_000_000 and not replaced:
            replaced.append(True)
            upload(store, str(tmp_path / "other"), size)

    download(store, target, progress=replace)
    assert replaced
    assert target.read_bytes() == OTHER
    assert os.listdir(target.parent) == [target.name]


@pytest.mark.parametrize("size", [SEGMENT, len(DATA)])
def test_damaged_part_is_begun_again(store, path, target, size):
    upload(store, path, size)
    etag = store.head(IMAGES, "a.tar").etag
    part = target.with_name(f".{target.name}.{etag}.part")
    part.write_bytes(bytes(1_000_000))
    assert download(store, target).moved == len(DATA) + (0 if size == SEGMENT else 2_000_017)
    assert target.read_bytes() == DATA
    part.write_bytes(DATA + b"more")
    download(store, target)
    assert target.read_bytes() == DATA


def test_parts_of_what_the_object_was_before_are_removed(store, path, target):
    upload(store, path)
    stale = target.with_name(f".{target.name}.{'0' * 32}.part")
    others = target.with_name(f".{target.name}.bak.{'0' * 32}.part")
    held = target.with_name(f".{target.name}.{'1' * 32}.part")
    for each in (stale, others):
        each.touch()
    fd = locks.lock(str(held))
    download(store, target)
    assert not stale.exists()
    assert others.exists()
    assert held.exists()
    os.close(fd)


def test_two_downloads_to_one_path_exclude_each_other(store, path, target):
    upload(store, path)
    busy = []

    def again(*_told):
        if not busy:
            busy.append(True)
            with pytest.raises(exceptions.Busy):
                download(store, target)

    download(store, target, progress=again)
    assert busy
    assert target.read_bytes() == DATA


@pytest.mark.parametrize("size", [SEGMENT, len(DATA)])
def test_damaged_object_never_becomes_a_file(store, path, target, size):
    upload(store, path, size)
    etag = store.head(IMAGES, "a.tar").etag
    account = store.cloud.account(store.account)
    for container in account.containers.values():
        for stored in container.objects.values():
            stored.data = stored.data[:-1] + bytes([stored.data[-1] ^ 1]) if stored.data else b""
    assert store.head(IMAGES, "a.tar").etag == etag
    with pytest.raises(exceptions.ServiceUnavailable, match="damaged"):
        download(store, target)
    assert not target.exists()


def test_object_that_is_not_what_was_uploaded_never_becomes_a_file(store, path, target):
    upload(store, path)
    metadata = store.head(IMAGES, "a.tar").metadata
    store.set_metadata(IMAGES, "a.tar", {**metadata, "sha256": "0" * 64})
    with pytest.raises(exceptions.InvalidRequest, match="SHA-256"):
        download(store, target)
    assert not target.exists()


def test_what_cannot_be_downloaded_is_told(store, path, target, tmp_path):
    upload(store, path)
    for wrong in (tmp_path, tmp_path / "none" / "a", tmp_path / ("x" * 250)):
        with pytest.raises(exceptions.InvalidRequest):
            download(store, wrong)
    with pytest.raises(exceptions.NotFound):
        transfer.download(store, IMAGES, "none", str(target))


def test_etag_that_is_none_is_no_files_name(store, target):
    store.write(IMAGES, "a.tar", DATA)
    stored = store.cloud.account(store.account).containers[IMAGES].objects["a.tar"]
    for etag in ("", "../../" + "0" * 32):
        stored.etag = etag
        with pytest.raises(exceptions.InvalidRequest, match="upload it again"):
            download(store, target)


def test_full_disk_is_told_as_such_and_what_came_is_kept(store, path, target):
    upload(store, path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        with pytest.raises(exceptions.NoSpace):
            download(store, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert download(store, target).moved == len(DATA) - 1_000_000
