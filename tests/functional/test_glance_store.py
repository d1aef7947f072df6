# SPDX-License-Identifier: Apache-2.0
"""The Glance store as glance_store calls it, on a simulated array: results and errors."""

import concurrent.futures
import hashlib
import io
import json
import subprocess
import sys
import textwrap
import uuid

import pytest
from glance_store import capabilities, exceptions, location
from oslo_config import cfg

from container_stack.drivers import glance
from container_stack.imagestore import edf
from container_stack.testing.edf import simulator

CHUNK = 64 * 1024
PREAMBLE = """
import io, json, os, sys
from oslo_config import cfg
from container_stack.drivers import glance
conf = cfg.ConfigOpts()
conf([])
store = glance.Store(conf, backend="fast")
for name, value in json.load(sys.stdin).items():
    conf.set_override(name, value, group="fast")
store.configure(re_raise_bsc=True)
"""
DATA = hashlib.shake_128(b"the sea").digest(5 * CHUNK + 17)


@pytest.fixture(scope="module")
def array(tmp_path_factory):
    with simulator.Simulator(tmp_path_factory.mktemp("array"), target="file") as made:
        yield made


@pytest.fixture
def options(array, tmp_path):
    """The options of a store on the array, in a tenant of its own."""
    endpoint = array.endpoint_kwargs
    yield {
        "datera_san_ip": endpoint["address"],
        "datera_san_port": endpoint["port"],
        "datera_san_login": endpoint["login"],
        "datera_san_password": endpoint["password"],
        "datera_ca_file": endpoint["ca_file"],
        "datera_tenant_id": f"/root/{uuid.uuid4().hex}",
        "datera_chunk_size": CHUNK,
        "datera_attach": "file",
        "datera_simulator_dir": array.options.directory,
        "datera_state_dir": tmp_path / "state",
        "datera_retry_attempts": 1,
        "datera_retry_interval": 0.05,
    }
    array.faults.clear()


@pytest.fixture
def make(tmp_path):
    """A function that makes a store of options, as glance_store does at Glance's start."""

    def made(options, name="fast"):
        file = tmp_path / "glance-api.conf"
        lines = "".join(f"{key} = {value}\n" for key, value in options.items())
        file.write_text(f"[{name}]\n{lines}")
        conf = cfg.ConfigOpts()
        conf(["--config-file", str(file)])
        store = glance.Store(conf, backend=name)
        store.configure()
        return store

    return made


@pytest.fixture
def store(make, options):
    return make(options)


@pytest.fixture
def left(options):
    """A function that returns the names of the app instances on the array."""
    endpoint = edf.Endpoint(
        address=options["datera_san_ip"],
        port=options["datera_san_port"],
        login=options["datera_san_login"],
        password=options["datera_san_password"],
        tenant=options["datera_tenant_id"],
        ca_file=options["datera_ca_file"],
    )
    return lambda: [each.name for each in edf.Client(endpoint).app_instances()]


def located(store, image_id):
    """Return the location of an image as Glance hands it over."""
    uri = f"{store.url_prefix}{image_id}"
    return location.Location("datera", glance.StoreLocation, store.conf, uri=uri, backend="fast")


def run(script, options, *args):
    """Run a script that finds a ``store`` of these options in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", PREAMBLE + textwrap.dedent(script), *args],
        input=json.dumps(options, default=str),
        capture_output=True,
        text=True,
        timeout=60,
    )


def new_id():
    return str(uuid.uuid4())


# Results --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, len(DATA)])
@pytest.mark.parametrize("known", [True, False])
def test_add_tells_all_that_glance_keeps(store, size, known):
    image, data = new_id(), DATA[:size]

    added = store.add(image, io.BytesIO(data), size if known else 0, "sha256")

    assert added == (
        f"datera://fast/{image}",
        size,
        hashlib.md5(data).hexdigest(),
        hashlib.sha256(data).hexdigest(),
        {"store": "fast"},
    )
    found, told = store.get(located(store, image))
    assert (b"".join(found), told, store.get_size(located(store, image))) == (data, size, size)


def test_md5_may_be_the_multihash(store):
    _uri, _size, checksum, multihash, _metadata = store.add(new_id(), io.BytesIO(b"sea"), 3, "md5")
    assert checksum == multihash == hashlib.md5(b"sea").hexdigest()


def test_old_callers_get_no_multihash(store):
    assert len(store.add(new_id(), io.BytesIO(b"sea"), 3)) == 4


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 1), (CHUNK - 1, 2), (7, None), (len(DATA) - 3, 3), (len(DATA) - 3, 99), (len(DATA), None)],
)
def test_chunk_size_is_the_length_of_a_range(store, offset, length):
    image = new_id()
    store.add(image, io.BytesIO(DATA), 0, "sha512")

    found, told = store.get(located(store, image), offset=offset, chunk_size=length)

    expected = DATA[offset:][:length]
    assert (b"".join(found), told) == (expected, len(expected))


def test_verifier_sees_all_bytes_in_order(store):
    seen = hashlib.sha256()
    store.add(new_id(), io.BytesIO(DATA), 0, "sha512", verifier=seen)
    assert seen.digest() == hashlib.sha256(DATA).digest()


def test_threads_share_a_store(store):
    def walk(number):
        image, data = new_id(), DATA[number:]
        store.add(image, io.BytesIO(data), 0, "sha512")
        found, _size = store.get(located(store, image))
        same = b"".join(found) == data
        store.delete(located(store, image))
        return same

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(walk, range(16))) == [True] * 16


def test_a_child_may_use_what_its_parent_configured(options, tmp_path):
    """uWSGI loads Glance once and forks."""
    script = """
        images = ["6ae40639-ca0a-4561-807a-f1b05f23b2d5", "961973d8-3360-4364-919e-2c197825dbb4"]
        children = []
        for image in images:
            if not (child := os.fork()):
                assert store.add(image, io.BytesIO(b"sea"), 0, "sha512")[1] == 3
                os._exit(0)
            children.append(child)
        sys.exit(max(os.waitpid(child, 0)[1] for child in children))
    """
    result = run(script, options)
    assert result.returncode == 0, result.stderr


# Errors ---------------------------------------------------------------------------------------


def test_an_image_that_is_not_there_is_said_at_once(store):
    nowhere = located(store, new_id())
    for call in (store.get, store.get_size, store.delete):
        with pytest.raises(exceptions.NotFound):
            call(nowhere)


def test_no_range_begins_behind_the_image(store):
    image = new_id()
    store.add(image, io.BytesIO(b"sea"), 3, "sha512")
    with pytest.raises(exceptions.Invalid):
        store.get(located(store, image), offset=4)


def test_an_image_is_stored_once(store):
    image = new_id()
    store.add(image, io.BytesIO(b"sea"), 3, "sha512")
    with pytest.raises(exceptions.Duplicate):
        store.add(image, io.BytesIO(b"sky"), 3, "sha512")
    assert b"".join(store.get(located(store, image))[0]) == b"sea"


@pytest.mark.parametrize("told", [len(DATA) - 1, len(DATA) + 1])
def test_another_size_than_told_leaves_nothing(store, left, told):
    with pytest.raises(exceptions.Invalid):
        store.add(new_id(), io.BytesIO(DATA), told, "sha512")
    assert left() == []


def test_what_the_stream_raises_comes_through_and_leaves_nothing(store, left):
    class Overboard(Exception):
        pass

    class Stream(io.BytesIO):
        def read(self, size=-1):
            if self.tell() > 2 * CHUNK:
                raise Overboard
            return super().read(min(size, CHUNK))

    with pytest.raises(Overboard):
        store.add(new_id(), Stream(DATA), 0, "sha512")
    assert left() == []


def test_a_full_array_leaves_nothing(store, array, left):
    array.faults.fill()
    with pytest.raises(exceptions.StorageFull):
        store.add(new_id(), io.BytesIO(DATA), 0, "sha512")
    array.faults.clear()
    assert left() == []


def test_a_deleted_image_is_gone(store, left):
    image = new_id()
    store.add(image, io.BytesIO(b"sea"), 3, "sha512")
    store.delete(located(store, image))
    assert left() == []
    with pytest.raises(exceptions.NotFound):
        store.delete(located(store, image))


def test_an_image_with_clones_is_in_use(store, left):
    image, clone = new_id(), new_id()
    store.add(image, io.BytesIO(b"sea"), 3, "sha512")
    target = store.clone(image, clone, "iqn.2026-01.org.example:host2")
    assert store.clone(image, clone) == target

    with pytest.raises(exceptions.InUseByStore):
        store.delete(located(store, image))

    assert [store.delete_clone(image, clone) for _ in range(2)] == [True, False]
    store.delete(located(store, image))
    assert left() == []
    with pytest.raises(exceptions.NotFound):
        store.clone(image, clone)


def test_a_wrong_password_closes_the_store_to_uploads(make, options, caplog):
    store = make({**options, "datera_san_password": "mussel-8264"})

    assert not store.is_capable(capabilities.BitMasks.WRITE_ACCESS)
    with pytest.raises(exceptions.StoreAddDisabled):
        store.add(new_id(), io.BytesIO(b"sea"), 3, "sha512")
    with pytest.raises(exceptions.RemoteServiceUnavailable):
        store.get(located(store, new_id()))
    [line] = [each.getMessage() for each in caplog.records if "Disabling" in each.getMessage()]
    assert "Store fast could not be configured correctly" in line
    assert options["datera_san_login"] in line
    assert "mussel" not in caplog.text


def test_a_certificate_of_somebody_else_closes_the_store_to_uploads(make, options, caplog):
    store = make({key: value for key, value in options.items() if key != "datera_ca_file"})
    assert not store.is_capable(capabilities.BitMasks.WRITE_ACCESS)
    assert "certificate" in caplog.text


def test_an_array_that_comes_back_is_used(make, options, array, left):
    array.faults.http_error(503)
    store = make(options)
    with pytest.raises(exceptions.StorageWriteDenied):
        store.add(new_id(), io.BytesIO(b"sea"), 3, "sha512")

    array.faults.clear()
    image = new_id()
    store.add(image, io.BytesIO(b"sea"), 3, "sha512")
    assert left() == [f"OS-IMAGE-{image}"]


def test_the_next_start_removes_what_a_killed_process_left(make, options, left, caplog):
    script = """
        class Stream(io.BytesIO):
            def read(self, size=-1):
                if self.tell():
                    os.kill(os.getpid(), 9)
                return super().read(size)
        store.add(sys.argv[1], Stream(bytes(range(256)) * 1024), 0, "sha512")
    """
    image = new_id()
    result = run(script, options, image)
    assert result.returncode == -9, result.stderr
    assert left() == [f"OS-IMAGE-{image}"]

    caplog.set_level("INFO")
    make(options)

    assert left() == []
    assert f"removed what a crash left: {image}" in caplog.text
