# SPDX-License-Identifier: Apache-2.0
"""Limits that share types and QoS types set, through Manila's REST API."""

import pytest
from functional import told_limits

from container_stack.host import device_limits

from . import cifs, host, smb, snapshot_rest

pytestmark = [
    cifs.BY_A_NORMAL_USER,
    pytest.mark.skipif(not device_limits.supported(), reason="this host can't limit block devices"),
]

MIB = 1024**2
OURS = "container_stack:"


def make_type(shares: cifs.Cifs, name: str, **limits: int | str) -> str:
    """Make a share type with what Manila calls these limits, and return its id."""
    backend = shares.backend.place.name
    given = {f"{OURS}{key}": str(value) for key, value in limits.items()}
    support = {
        "snapshot_support": "True",
        "create_share_from_snapshot_support": "True",
        "qos": "<is> True",
    }
    return shares.client.create_type(
        f"{backend}-{name}", share_backend_name=backend, **support, **given
    )


def told(shares: cifs.Cifs, share: cifs.Made) -> object:
    """Return what the kernel has been told of a share."""
    files = {path: device for device, path in host.loop_devices(shares.state).items()}
    name = share.location.rpartition("\\")[2]
    device = files[f"{shares.state}/volumes/{name}.img"]
    [container] = host.containers(shares.owner, id=share.server)
    return told_limits.server(device, container["Id"]), told_limits.kernel(device)


def test_a_share_types_limits_are_kept_while_it_grows_is_copied_and_its_service_starts_anew(
    shares: cifs.Cifs, network: str
) -> None:
    client, snapshots = shares.client, snapshot_rest.Snapshots(shares.client)
    [pool] = client.pools(shares.backend.host)
    assert pool.capabilities["qos"] is True
    assert pool.capabilities["qos_type_support"] is True
    share_type = make_type(shares, "limited", maxbpspergib=48 * MIB, maxiops=700)
    share = shares.made(client.create_share(network=network, share_type=share_type).id)
    assert told(shares, share) == told_limits.expected(48 * MIB, 700)
    key = shares.key(share, "alice")
    with smb.Client(share.location, "alice", key) as user, smb.writing(user, "log") as writer:
        assert client.extend(share.id, 2).status == "available"
    assert writer.failures == []
    assert told(shares, share) == told_limits.expected(96 * MIB, 700)
    taken = snapshots.create(share.id)
    copy = shares.made(snapshots.share(taken.id, share_type, network, 3))
    assert told(shares, copy) == told_limits.expected(144 * MIB, 700)
    client.delete_share(copy.id)
    snapshots.delete(taken.id)

    specs = {f"{OURS}maxiops": "300"}
    client.call("POST", f"types/{share_type}/extra_specs", {"extra_specs": specs})
    shares.backend.service.kill()
    shares.backend.restart()
    # Shares are ensured after the service has said that it is there.
    client.wait("other limits", lambda: told(shares, share) == told_limits.expected(96 * MIB, 300))
    client.delete_share(share.id)


def test_a_wrong_limit_sends_the_share_to_error_and_the_log_names_the_key(
    shares: cifs.Cifs, network: str
) -> None:
    for name, key, value in (("word", "maxbps", "10M"), ("unknown", "maxbsp", 10 * MIB)):
        share_type = make_type(shares, name, **{key: value})
        asked = shares.client.create_share(network=network, share_type=share_type)
        assert shares.client.settled(asked.id).status == "error"
        assert f"xtra spec {OURS}{key}" in shares.backend.service.log.read_text(errors="replace")
        shares.client.delete_share(asked.id)


def test_a_qos_type_counts_before_the_share_type(shares: cifs.Cifs, network: str) -> None:
    client, name = shares.client, f"{shares.backend.place.name}-silver"
    body = {"name": name, "specs": {f"{OURS}maxbps": str(7 * MIB)}}
    qos_type = client.call("POST", "qos-types", {"qos_type": body})["qos_type"]["id"]
    share_type = client.create_type(
        f"{name}-type",
        share_backend_name=shares.backend.place.name,
        default_qos_type=name,
        **{f"{OURS}maxbps": str(9 * MIB), f"{OURS}maxiops": "50"},
    )
    share = shares.made(client.create_share(network=network, share_type=share_type).id)
    assert told(shares, share) == told_limits.expected(7 * MIB, 50)
    client.delete_share(share.id)
    client.call("DELETE", f"qos-types/{qos_type}")
