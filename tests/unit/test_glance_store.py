# SPDX-License-Identifier: Apache-2.0
"""The Glance store where no array is: its locations, its registration, and how it fails."""

import io
import socket
import subprocess
import sys
import uuid

import glance_store
import pytest
from glance_store import capabilities, location, multi_backend
from glance_store import exceptions as store_exceptions
from oslo_config import cfg

from container_stack.drivers import glance

IMAGE = "6ae40639-ca0a-4561-807a-f1b05f23b2d5"


@pytest.fixture(autouse=True)
def _no_stores(monkeypatch):
    """Let what a test registers be forgotten after it."""
    monkeypatch.setattr(location, "SCHEME_TO_CLS_MAP", {})
    monkeypatch.setattr(location, "SCHEME_TO_CLS_BACKEND_MAP", {})


def configured(tmp_path, text):
    """Return the configuration that a glance-api.conf makes."""
    file = tmp_path / "glance-api.conf"
    file.write_text(text)
    conf = cfg.ConfigOpts()
    conf(["--config-file", str(file)])
    return conf


def stores(tmp_path, **sections):
    """Return the stores, by name, that Glance makes at its start of sections of lines."""
    enabled = ",".join(f"{name}:datera" for name in sections)
    text = f"[DEFAULT]\nenabled_backends = {enabled}\n"
    for name, lines in sections.items():
        text += f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items())
    conf = configured(tmp_path, text)
    conf.register_opt(cfg.DictOpt("enabled_backends"))
    multi_backend.register_store_opts(conf)
    assert multi_backend.create_multi_stores(conf) == len(sections)
    made = location.SCHEME_TO_CLS_BACKEND_MAP["datera"]
    return {name: made[name]["store"] for name in sections}


def unreachable(tmp_path):
    """Return the options of a store whose array isn't there."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    return {
        "datera_san_ip": "127.0.0.1",
        "datera_san_port": port,
        "datera_san_login": "glance",
        "datera_san_password": "oyster",
        "datera_retry_attempts": 0,
        "datera_attach": "file",
        "datera_simulator_dir": tmp_path,
        "datera_state_dir": tmp_path / "state",
    }


def located(store, uri):
    """Return a location as Glance hands it to a store."""
    return location.get_location_from_uri_and_backend(uri, store.backend_group, store.conf)


def test_only_glance_store_is_needed():
    """No os-brick, no Glance, no eventlet."""
    text = (
        "import sys\n"
        "for name in ('os_brick', 'glance', 'eventlet'): sys.modules[name] = None\n"
        "from container_stack.drivers import glance\n"
        "print(glance.Store.OPTIONS[0].name)\n"
    )
    result = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("datera_san_ip\n", "")


# Locations ------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["fast", "slow", None])
def test_location_names_backend_and_image(backend):
    made = glance.StoreLocation({"image_id": IMAGE}, None, backend_group=backend)
    assert made.get_uri() == f"datera://{backend or 'datera'}/{IMAGE}"
    parsed = glance.StoreLocation({}, None, backend_group=backend)
    parsed.parse_uri(made.get_uri())
    assert (parsed.image_id, parsed.get_uri()) == (IMAGE, made.get_uri())


@pytest.mark.parametrize("prefix", ["", "OS-", "OS-IMAGE-"])
def test_locations_of_dateras_own_driver_are_understood(prefix):
    parsed = glance.StoreLocation({}, None)
    parsed.parse_uri(f"datera://192.0.2.7:7718/app_instances/{prefix}{IMAGE}")
    assert parsed.image_id == IMAGE


@pytest.mark.parametrize(
    "uri",
    [
        f"file:///var/lib/glance/{IMAGE}",
        f"datera:/fast/{IMAGE}",
        f"datera:///{IMAGE}",
        f"datera://fast/other/{IMAGE}",
        f"datera://fast/{IMAGE}/",
        f"datera://fast/{IMAGE.upper()}",
        "datera://fast/../passwd",
        "datera://fast",
        "datera://",
        "",
    ],
)
def test_other_locations_are_refused(uri):
    with pytest.raises(store_exceptions.BadStoreUri):
        glance.StoreLocation({}, None, backend_group="fast").parse_uri(uri)


# Registration ---------------------------------------------------------------------------------


def test_stores_stand_side_by_side(tmp_path):
    made = stores(tmp_path, fast=unreachable(tmp_path), slow=unreachable(tmp_path))

    assert [made[name].url_prefix for name in made] == ["datera://fast/", "datera://slow/"]
    assert {type(store) for store in made.values()} == {glance.Store}
    uri = f"{made['slow'].url_prefix}{IMAGE}"
    assert located(made["slow"], uri).store_location.image_id == IMAGE
    with pytest.raises(store_exceptions.UnknownScheme):
        location.get_location_from_uri_and_backend(uri, "third", made["slow"].conf)


def test_options_of_all_stores_may_stand_in_one_place(tmp_path):
    shared = unreachable(tmp_path)
    text = "".join(f"{key} = {value}\n" for key, value in shared.items())
    conf = configured(tmp_path, f"[backend_defaults]\n{text}[fast]\ndatera_replica_count = 2\n")
    store = glance.Store(conf, backend="fast")

    assert store._option("datera_replica_count") == 2
    assert store._option("datera_san_login") == "glance"
    assert store._option("datera_placement_mode") == "hybrid"


def test_glance_reuses_a_store_and_asks_it_for_ranges(tmp_path):
    [store] = stores(tmp_path, fast=unreachable(tmp_path)).values()
    assert store.is_capable(capabilities.BitMasks.DRIVER_REUSABLE, capabilities.BitMasks.RW_RANDOM)
    # As glance_store's own tests have it of every store.
    assert {getattr(store, name).__name__ for name in ("get", "delete")} == {"op_checker"}
    assert store.add.__name__ == "op_checker"


def test_a_single_store_stands_beside_others(tmp_path):
    lines = "".join(f"{key} = {value}\n" for key, value in unreachable(tmp_path).items())
    text = f"[glance_store]\nstores = file,datera\nfilesystem_store_datadir = {tmp_path}\n{lines}"
    conf = configured(tmp_path, text)
    glance_store.register_opts(conf)
    glance_store.create_stores(conf)

    store = location.SCHEME_TO_CLS_MAP["datera"]["store"]
    assert (store.url_prefix, store.backend_group) == ("datera://datera/", None)
    assert conf.glance_store.default_store == "file"
    assert {"file", "datera"} <= set(glance_store.get_known_schemes())


def test_glance_store_refuses_a_single_store_as_the_default(tmp_path):
    """Its list of schemes is closed; ``enabled_backends`` is the way then."""
    text = "[glance_store]\nstores = file,datera\ndefault_store = datera\n"
    conf = configured(tmp_path, text)
    glance_store.register_opts(conf)
    with pytest.raises(cfg.ConfigFileValueError, match="default_store"):
        _ = conf.glance_store.default_store


# Failure --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("datera_san_password", "", "Set datera_san_password."),
        ("datera_replica_count", 9, "datera_replica_count"),
        ("datera_attach", "carrier-pigeon", "carrier-pigeon"),
        ("datera_tenant_id", "/boot", "/boot"),
    ],
)
def test_a_store_that_can_never_work_is_closed_to_uploads(tmp_path, caplog, name, value, words):
    wrong = {**unreachable(tmp_path), name: value}
    [store] = stores(tmp_path, fast=wrong).values()

    assert not store.is_capable(capabilities.BitMasks.WRITE_ACCESS)
    with pytest.raises(store_exceptions.StoreAddDisabled):
        store.add(IMAGE, io.BytesIO(b"sea"), 3, "sha512")
    with pytest.raises(store_exceptions.RemoteServiceUnavailable, match="log"):
        store.get(located(store, f"datera://fast/{IMAGE}"))
    [line] = [each.getMessage() for each in caplog.records if "Disabling" in each.getMessage()]
    assert "Store fast could not be configured correctly" in line
    assert words in line
    assert "oyster" not in caplog.text


def test_an_array_that_is_down_refuses_no_more_than_it_must(tmp_path, caplog):
    """It may be back in a minute, and then nobody wants to restart Glance."""
    [store] = stores(tmp_path, fast=unreachable(tmp_path)).values()
    image = located(store, f"datera://fast/{IMAGE}")

    assert store.is_capable(capabilities.BitMasks.WRITE_ACCESS)
    with pytest.raises(store_exceptions.StorageWriteDenied):
        store.add(IMAGE, io.BytesIO(b"sea"), 3, "sha512")
    with pytest.raises(store_exceptions.RemoteServiceUnavailable):
        store.get(image)
    with pytest.raises(store_exceptions.RemoteServiceUnavailable):
        store.get_size(image)
    with pytest.raises(store_exceptions.TimeoutError):
        store.delete(image)
    assert [each.levelname for each in caplog.records if "Store fast" in each.getMessage()]
    assert "oyster" not in caplog.text


def test_access_lists_are_nobodys_business(tmp_path):
    [store] = stores(tmp_path, fast=unreachable(tmp_path)).values()
    image = located(store, f"datera://fast/{uuid.uuid4()}")
    assert store.set_acls(image, public=True, read_tenants=["sailors"]) is None
