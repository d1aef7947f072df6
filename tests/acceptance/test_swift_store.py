# SPDX-License-Identifier: Apache-2.0
"""The driver of Swift, transfers and accounts against a real Swift."""

import concurrent.futures
import hashlib
import logging
import multiprocessing
import os
import random
import signal
import ssl
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import trustme

from container_stack import exceptions
from container_stack.drivers import swift as driver
from container_stack.drivers import swift_connections
from container_stack.storlets import model
from container_stack.storlets.store import accounts, claims, remote, transfer
from container_stack.testing import object_contract, object_world

from . import relay, swift

DATA = random.Random(3).randbytes(20_000_003)
OTHER = DATA[::-1]
SEGMENT = 3_000_000


def login(storage: swift.Swift, user: swift.User) -> driver.Swift:
    return driver.Swift(driver.Credentials.from_environment(storage.environment(user)))


@pytest.fixture(scope="module")
def users(object_storage: swift.Swift) -> object_world.Users:
    owner = login(object_storage, swift.MANAGER)
    own = login(object_storage, swift.DEPLOYER)
    guest = own.to(swift.MANAGER.account)
    return object_world.Users(owner, guest, swift.DEPLOYER.login, own)


class TestSwift(object_contract.ObjectContract):
    pass


@pytest.fixture
def store(object_storage: swift.Swift) -> driver.Swift:
    return login(object_storage, swift.MANAGER)


@pytest.fixture
def container(store: driver.Swift) -> str:
    name = f"cstest-{uuid.uuid4().hex[:12]}"
    store.set_container(name, {})
    return name


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "image.tar"
    file.write_bytes(DATA)
    return file


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "there").mkdir()
    return tmp_path / "there" / "got.tar"


@pytest.fixture
def between(object_storage: swift.Swift) -> Iterator[relay.Relay]:
    with relay.running(object_storage.port) as running:
        yield running


def through(between: relay.Relay, user: swift.User = swift.MANAGER) -> driver.Swift:
    url = f"http://127.0.0.1:{between.port}/auth/v1.0"
    return driver.Swift(
        driver.Credentials.from_environment(
            {"ST_AUTH": url, "ST_USER": user.login, "ST_KEY": user.password}
        )
    )


# The driver ------------------------------------------------------------------------------------


def test_many_threads_share_a_store(store: driver.Swift, container: str) -> None:
    def work(number: int) -> bool:
        name, data = f"{number}", DATA[number : 100_000 + number * 7]
        store.write(container, name, data)
        return all(b"".join(store.read(container, name)) == data for _again in range(5))

    with concurrent.futures.ThreadPoolExecutor(12) as threads:
        assert all(threads.map(work, range(36)))


def test_long_list_is_got_in_pages(
    store: driver.Swift, container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        store.write(container, f"{number}", b"")
    monkeypatch.setattr(driver, "PAGE", 3)
    assert [each.name for each in store.list(container)] == [f"{n}" for n in range(7)]


def test_reading_that_is_given_up_harms_nobody(store: driver.Swift, container: str) -> None:
    store.write(container, "a", DATA)
    for _again in range(2 * swift_connections.IDLE):
        assert next(store.read(container, "a"))
    assert b"".join(store.read(container, "a")) == DATA


def test_token_that_is_void_is_renewed(
    store: driver.Swift, container: str, object_storage: swift.Swift
) -> None:
    store.write(container, "a", b"x")
    cache = object_storage.process("memcached")
    cache.stop()
    cache.start()
    deadline = time.monotonic() + 60
    while True:
        try:
            assert store.head(container, "a").size == 1
            break
        except exceptions.ServiceUnavailable:
            assert time.monotonic() < deadline


def test_wrong_password_is_refused_and_told_nowhere(
    object_storage: swift.Swift, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    environment = {**object_storage.environment(swift.MANAGER), "ST_KEY": "wrong-horse-9"}
    credentials = driver.Credentials.from_environment(environment)
    store = driver.Swift(credentials)
    with pytest.raises(exceptions.AccessDenied) as caught:
        store.account_headers()
    told = [repr(credentials), repr(store), str(caught.value), repr(caught.value), caplog.text]
    told += [repr(each) for each in _chain(caught.value)]
    assert not [each for each in told if "wrong-horse" in each]


def test_secrets_stay_out_of_logs(
    store: driver.Swift,
    container: str,
    object_storage: swift.Swift,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    store.write(container, "a", b"x")
    with pytest.raises(exceptions.NotFound) as caught:
        store.head(container, "none")
    token = object_storage.session(swift.MANAGER).headers["X-Auth-Token"]
    assert isinstance(token, str)
    told = [caplog.text, repr(store), *(repr(each) for each in _chain(caught.value))]
    for text in told:
        assert swift.MANAGER.password not in text
        assert token.removeprefix("AUTH_tk")[:4] not in text
    assert container in caplog.text


def test_nobody_there_is_service_unavailable() -> None:
    with relay.running(1) as gone:
        pass
    with pytest.raises(exceptions.ServiceUnavailable):
        through(gone).account_headers()


def test_connection_that_breaks_is_made_again(between: relay.Relay, container: str) -> None:
    store = through(between)
    store.write(container, "a", DATA)
    again = through(between)
    assert again.account
    between.down += [100]
    assert again.head(container, "a").size == len(DATA)
    fresh = through(between)
    assert fresh.account
    between.up += [1_000_000]
    fresh.write(container, "b", [DATA[:5_000_000], DATA[5_000_000:]], size=len(DATA))
    assert b"".join(store.read(container, "b")) == DATA


def test_what_cannot_be_sent_again_is_told(between: relay.Relay, container: str) -> None:
    store = through(between)
    assert store.account
    between.up += [1_000_000]
    with pytest.raises(exceptions.ServiceUnavailable):
        store.write(container, "a", iter([DATA]), size=len(DATA))
    with pytest.raises(exceptions.NotFound):
        store.head(container, "a")


def test_answer_that_is_cut_off_is_no_whole_one(between: relay.Relay, container: str) -> None:
    store = through(between)
    store.write(container, "a", DATA)
    again = through(between)
    assert again.account
    between.down += [1_000_000]
    with pytest.raises(exceptions.ServiceUnavailable):
        list(again.read(container, "a", 1000))


def test_certificate_must_be_signed_by_whom_we_trust(
    object_storage: swift.Swift, container: str, tmp_path: Path
) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    files = {"": "", "right": str(tmp_path / "right"), "wrong": str(tmp_path / "wrong")}
    authority.cert_pem.write_to_path(files["right"])
    stranger.cert_pem.write_to_path(files["wrong"])
    with relay.running(object_storage.port, tls) as between:
        between.head = (b"X-Storage-Url: http:", b"X-Storage-Url: https:")
        environment = {
            **object_storage.environment(swift.MANAGER),
            "ST_AUTH": f"https://127.0.0.1:{between.port}/auth/v1.0",
        }

        def write(which: str) -> None:
            given = {**environment, "OS_CACERT": files[which]}
            driver.Swift(driver.Credentials.from_environment(given)).write(container, "a", DATA)

        for which in ("", "wrong"):
            with pytest.raises(exceptions.HostNotReady, match="OS_CACERT"):
                write(which)
        write("right")


# Transfers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [SEGMENT, transfer.GIB])
def test_file_comes_back_as_it_was(
    store: driver.Swift, container: str, path: Path, target: Path, size: int
) -> None:
    done = transfer.upload(
        store, container, "a.tar", str(path), metadata={"Image-Name": "one"}, segment_size=size
    )
    got = transfer.download(store, container, "a.tar", str(target))
    assert target.read_bytes() == DATA
    assert got.sha256 == done.sha256 == hashlib.sha256(DATA).hexdigest()
    assert got.object == done.object
    assert got.object.segmented == (size == SEGMENT)
    assert got.object.metadata == {"image-name": "one", "sha256": done.sha256}
    again = transfer.upload(store, container, "a.tar", str(path), segment_size=size)
    assert again.moved == 0


def test_killed_upload_changes_nothing_and_is_gone_on_with(
    object_storage: swift.Swift, store: driver.Swift, container: str, path: Path
) -> None:
    store.write(container, "a.tar", b"old")
    for at in (2, 8):
        _killed(_upload, object_storage, container, path, at * 1_000_000)
        assert b"".join(store.read(container, "a.tar")) == b"old"
    done = transfer.upload(store, container, "a.tar", str(path), segment_size=SEGMENT)
    assert done.moved == len(DATA) - 2 * SEGMENT
    assert b"".join(store.read(container, "a.tar")) == DATA
    assert len(list(store.list(f"{container}_segments"))) == 7


def test_segments_of_a_killed_upload_are_swept_by_the_next(
    object_storage: swift.Swift, store: driver.Swift, container: str, path: Path
) -> None:
    _killed(_upload, object_storage, container, path, 8_000_000)
    path.write_bytes(OTHER)
    transfer.upload(store, container, "a.tar", str(path), segment_size=2 * SEGMENT)
    assert len(list(store.list(f"{container}_segments"))) == 4
    assert b"".join(store.read(container, "a.tar")) == OTHER
    store.remove(container, "a.tar")
    assert list(store.list(f"{container}_segments")) == []


@pytest.mark.parametrize("size", [SEGMENT, transfer.GIB])
def test_killed_download_leaves_no_file_and_is_gone_on_with(
    object_storage: swift.Swift,
    store: driver.Swift,
    container: str,
    path: Path,
    target: Path,
    size: int,
) -> None:
    transfer.upload(store, container, "a.tar", str(path), segment_size=size)
    for at in (4, 11):
        _killed(_download, object_storage, container, target, at * 1_000_000)
        assert not target.exists()
    done = transfer.download(store, container, "a.tar", str(target))
    assert 0 < done.moved <= len(DATA) - 11_000_000
    assert target.read_bytes() == DATA
    assert os.listdir(target.parent) == [target.name]


def test_download_goes_on_over_broken_connections(
    between: relay.Relay, store: driver.Swift, container: str, path: Path, target: Path
) -> None:
    transfer.upload(store, container, "a.tar", str(path), segment_size=SEGMENT)
    broken = through(between)
    assert broken.account
    between.down += [100_000, 5_000_000, 7_000_000]
    done = transfer.download(broken, container, "a.tar", str(target))
    assert done.moved == len(DATA)
    assert target.read_bytes() == DATA
    assert between.connections >= 4


@pytest.mark.parametrize("size", [SEGMENT, transfer.GIB])
def test_object_that_is_replaced_meanwhile_is_got_whole(
    store: driver.Swift, container: str, path: Path, target: Path, size: int
) -> None:
    transfer.upload(store, container, "a.tar", str(path), segment_size=size)
    other = path.with_name("other.tar")
    other.write_bytes(OTHER)
    replaced = []

    def replace(_what: str, done: int, _total: int | None) -> None:
        if done > 4_000_000 and not replaced:
            replaced.append(True)
            transfer.upload(store, container, "a.tar", str(other), segment_size=size)

    transfer.download(store, container, "a.tar", str(target), replace)
    assert replaced
    # All of what it was, or all of what it is.
    assert target.read_bytes() in (DATA, OTHER)
    assert os.listdir(target.parent) == [target.name]


def test_replaced_object_in_segments_ends_the_old_ones_download(
    store: driver.Swift, container: str, path: Path
) -> None:
    transfer.upload(store, container, "a.tar", str(path), segment_size=SEGMENT)
    file = remote.RangeFile(store, container, "a.tar")
    file.seek(7_777_777)
    assert file.read(1000) == DATA[7_777_777:7_778_777]
    assert file.requests == 1
    path.write_bytes(OTHER)
    transfer.upload(store, container, "a.tar", str(path), segment_size=SEGMENT)
    file.seek(0)
    with pytest.raises(exceptions.Busy):
        file.read(1000)


def _upload(environment: Mapping[str, str], container: str, path: str, at: int) -> None:
    store = driver.Swift(driver.Credentials.from_environment(environment))
    transfer.upload(
        store, container, "a.tar", path, segment_size=SEGMENT, progress=_die("Uploading", at)
    )


def _download(environment: Mapping[str, str], container: str, path: str, at: int) -> None:
    store = driver.Swift(driver.Credentials.from_environment(environment))
    transfer.download(store, container, "a.tar", path, _die("Downloading", at))


def _die(begin: str, at: int) -> model.Progress:
    def tell(what: str, done: int, _total: int | None) -> None:
        if what.startswith(begin) and done > at:
            os.kill(os.getpid(), signal.SIGKILL)

    return tell


def _killed(
    target: Callable[[Mapping[str, str], str, str, int], None],
    storage: swift.Swift,
    container: str,
    path: Path,
    at: int,
) -> None:
    arguments = (storage.environment(swift.MANAGER), container, str(path), at)
    child = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
    child.start()
    child.join(60)
    assert child.exitcode == -signal.SIGKILL


# Accounts --------------------------------------------------------------------------------------


def test_enabled_account_is_shared_by_both_managers_and_nobody_else(
    object_storage: swift.Swift, path: Path, target: Path
) -> None:
    account = model.Account(swift.MANAGER.account)
    provider = login(object_storage, swift.CHIEF)
    known = claims.Claims(provider)
    names = (swift.DEPLOYER.login, swift.MANAGER.login)
    opened = provider.to(account.name)
    planned = accounts.enable(opened, known, account, names, dry_run=True)
    assert planned
    assert accounts.enable(opened, known, account, names) == planned
    assert accounts.enable(opened, known, account, names) == []
    assert account.name in [each.account for each in known.all()]
    accounts.publish(opened, str(path), "base.tar", "storlet-base", segment_size=SEGMENT)

    manager = login(object_storage, swift.MANAGER)
    (base,) = accounts.images(manager)
    assert (base.name, base.object.size) == ("storlet-base", len(DATA))
    transfer.download(manager, model.IMAGES, "base.tar", str(target))
    assert target.read_bytes() == DATA
    target.write_bytes(OTHER)
    transfer.upload(manager, model.IMAGES, "mine.tar", str(target), segment_size=SEGMENT)

    deployer = login(object_storage, swift.DEPLOYER).to(account.name)
    assert [each.object.name for each in accounts.images(deployer)] == ["base.tar", "mine.tar"]
    transfer.download(deployer, model.IMAGES, "mine.tar", str(path))
    assert path.read_bytes() == OTHER
    transfer.upload(deployer, model.IMAGES, "mine.tar", str(path), segment_size=2 * SEGMENT)
    for user in (swift.MEMBER, swift.STRANGER):
        with pytest.raises(exceptions.AccessDenied):
            list(accounts.images(login(object_storage, user).to(account.name)))

    accounts.disable(opened, known, account)
    with pytest.raises(exceptions.AccessDenied):
        list(accounts.images(deployer))
    assert len(list(accounts.images(manager))) == 2
    for each in (base.object.name, "mine.tar"):
        manager.remove(model.IMAGES, each)
    assert list(manager.list(model.SEGMENTS)) == []


def test_account_that_shares_its_scope_with_another_is_refused(
    object_storage: swift.Swift,
) -> None:
    provider = login(object_storage, swift.CHIEF)
    known = claims.Claims(provider)
    first, twin = (model.Account(f"AUTH_0123456789abc{end}") for end in ("def", "999"))
    users = [swift.DEPLOYER.login]
    assert accounts.enable(provider.to(first.name), known, first, users)
    with pytest.raises(exceptions.InvalidRequest, match=first.name):
        accounts.enable(provider.to(twin.name), known, twin, users)


def _chain(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__
