# SPDX-License-Identifier: Apache-2.0
"""What volume services tell, read by the service and checked again by the root side."""

import json
import uuid
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies

from container_stack import exceptions
from container_stack.rootwrap import disk_wire
from container_stack.servers import disk_places, disk_sources, model

VOLUME = "0f9c1f0e-7a53-4c0e-9a39-0d6f1f0c5b12"
IQN = f"iqn.2010-10.org.openstack:volume-{VOLUME}"
ISCSI = {
    "target_discovered": False,
    "target_iqn": IQN,
    "target_portal": "192.0.2.7:3260",
    "target_lun": 1,
    "auth_method": "CHAP",
    "auth_username": "user-of-the-volume",
    "auth_password": "secret-of-the-volume",
    "encrypted": False,
    "qos_specs": None,
    "access_mode": "rw",
}


def disk(kind: str, data: Any, target: str = "/dev/vdb", **values: Any) -> model.Disk:
    return model.Disk(VOLUME, {"driver_volume_type": kind, "data": data}, target, **values)


def read(found: model.Disk, *, multipath: bool = False) -> disk_wire.Source:
    return disk_sources.source(found, multipath=multipath, timeout=30.0)


def test_target_is_read_as_cinder_tells_it() -> None:
    found = read(disk("iscsi", ISCSI)).iscsi
    assert found is not None
    assert (found.iqn, found.portals, found.lun) == (IQN, ("192.0.2.7:3260",), 1)
    assert (found.user, found.secret) == ("user-of-the-volume", "secret-of-the-volume")


def test_portals_count_that_lead_to_the_same_unit_of_the_same_target() -> None:
    portals = ["192.0.2.7:3260", "192.0.2.8:3260", "192.0.2.9:3260", "192.0.2.10:3260"]
    lists = {
        "target_portals": portals,
        "target_iqns": [IQN, IQN, IQN + "-b", IQN],
        "target_luns": [1, 1, 1, 2],
    }
    found = read(disk("iscsi", ISCSI | lists), multipath=True).iscsi
    assert found is not None
    assert (found.portals, found.multipath) == (("192.0.2.7:3260", "192.0.2.8:3260"), True)
    alone = read(disk("iscsi", ISCSI), multipath=True).iscsi
    assert alone is not None
    assert not alone.multipath


def test_secrets_are_sent_and_not_recorded() -> None:
    source = read(disk("iscsi", ISCSI))
    assert disk_wire.decode(source.encode()) == source
    assert "secret-of-the-volume" in source.encode()
    assert "secret-of-the-volume" not in source.without_secrets().encode()
    assert "secret-of-the-volume" not in repr((source, disk("iscsi", ISCSI)))


@pytest.mark.parametrize(
    "path",
    [
        "/dev/sda",
        "/dev/vg/root",
        "/dev/mapper/vg-volume",
        f"/dev/shm/volume-{VOLUME}",
        f"/dev/../tmp/volume-{VOLUME}",
        f"/dev/vg/../volume-{VOLUME}",
        f"/dev/vg/volume-{VOLUME}\n",
        f"/tmp/volume-{VOLUME}",
        "",
        None,
        7,
    ],
)
def test_device_that_is_no_volumes_is_refused(path: Any) -> None:
    with pytest.raises(exceptions.InvalidRequest):
        read(disk("local", {"device_path": path}))


@pytest.mark.parametrize("kind", ["rbd", "nfs_cinder", "fibre_channel", "", None])
def test_other_protocols_are_refused_with_what_there_is(kind: Any) -> None:
    with pytest.raises(exceptions.NotSupported, match="iscsi, local, nfs"):
        read(disk(kind, {}))


def test_encrypted_volume_is_refused() -> None:
    with pytest.raises(exceptions.NotSupported, match="encrypted"):
        read(disk("iscsi", ISCSI | {"encrypted": True}))


@pytest.mark.parametrize("missing", ["target_iqn", "target_portal", "target_lun", "auth_password"])
def test_incomplete_target_is_told_without_its_secret(missing: str) -> None:
    data = {name: value for name, value in ISCSI.items() if name != missing}
    with pytest.raises(exceptions.InvalidRequest, match="incomplete") as caught:
        read(disk("iscsi", data))
    assert "secret-of-the-volume" not in str(caught.value)


@hypothesis.given(
    strategies.recursive(
        strategies.none() | strategies.booleans() | strategies.integers() | strategies.text(),
        lambda inner: (
            strategies.lists(inner, max_size=3)
            | strategies.dictionaries(
                strategies.sampled_from([*ISCSI, "target_portals", "target_iqns", "device_path"]),
                inner,
                max_size=5,
            )
        ),
        max_leaves=12,
    ),
    strategies.sampled_from(["iscsi", "local", "nfs"]),
)
def test_whatever_is_told_is_read_or_refused(data: Any, kind: str) -> None:
    for given in (data, {**ISCSI, **data} if isinstance(data, dict) else data):
        found = disk(kind, given)
        try:
            if not disk_sources.export(found):
                disk_wire.decode(read(found).encode())
        except (exceptions.InvalidRequest, exceptions.NotSupported):
            pass


@hypothesis.given(strategies.text() | strategies.binary())
def test_root_side_reads_only_sources(text: Any) -> None:
    with pytest.raises(exceptions.InvalidRequest):
        disk_wire.decode(text)


@pytest.mark.parametrize(
    "values", [{}, {"local": ""}, {"local": 1}, {"iscsi": {}}, {"local": "x", "iscsi": {}}, [], 1]
)
def test_root_side_refuses_other_json(values: Any) -> None:
    with pytest.raises(exceptions.InvalidRequest):
        disk_wire.decode(json.dumps(values))


@pytest.mark.parametrize(
    ("target", "mounting", "kind", "name"),
    [
        ("/dev/vdb", False, "device", "/dev/vdb"),
        ("/dev/xvdab", False, "device", "/dev/xvdab"),
        ("/dev/vdb", True, "volume", "vdb"),
        ("/data", False, "volume", "data"),
    ],
)
def test_disk_appears_where_it_is_asked_for(
    target: str, mounting: bool, kind: str, name: str
) -> None:
    found = disk_places.Place.of(disk("iscsi", ISCSI, target), mount_volumes=mounting)
    assert (found.kind, found.name) == (kind, name)


@pytest.mark.parametrize(
    "target",
    ["/dev/vda", "/dev/null", "/dev/../etc/x", "/dev/vdb\n", "/", "", "/..", "/a b", "/.x"],
)
def test_other_places_are_refused(target: str) -> None:
    with pytest.raises(exceptions.InvalidRequest, match="can't appear"):
        disk_places.Place.of(disk("iscsi", ISCSI, target), mount_volumes=False)


def test_share_appears_by_its_tag() -> None:
    share = disk("nfs", {"export": "nas.example.org:/exports/one"}, f"/{uuid.UUID(VOLUME)}")
    found = disk_places.Place.of(share, mount_volumes=False)
    assert (found.kind, found.name) == ("share", VOLUME)
    for export in ("nas:/a,exec", "nas:/../etc", "/etc", "", None, "nas:/a b"):
        with pytest.raises(exceptions.InvalidRequest, match="export location"):
            disk_sources.export(disk("nfs", {"export": export}))
