# SPDX-License-Identifier: Apache-2.0
"""An ownership for the coordination URL that an operator gives."""

import dataclasses
import os
import urllib.parse

from container_stack import exceptions
from container_stack.host import records
from container_stack.rootwrap import executor
from container_stack.volumes import model, ownership, registry
from container_stack.volumes.cluster import (
    ending,
    etcd,
    figures,
    guard,
    guarding,
    heart,
    leases,
    membership,
    owners,
    record,
    single,
)

#: Seconds that a lease lasts; less leaves no time to end all use on a busy host.
SHORTEST_LEASE, LEASE = 10, 30
#: Seconds between two beats of a host that is alone.
_PAUSE = 20.0


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where, and as whom, a node lives.

    :param state_dir: of the daemon; the record is below ``lease`` there.
    :param helper: the root helper's command; () is the executor's own.
    :param engine_url: the engine whose containers are killed; "" means that there is none.
    :param cluster_id: whose keys are apart from those of others in the same etcd.
    :param management_ip: where the node is reached; like ``data_ip`` only shown to people.
    """

    node_id: str
    state_dir: str
    helper: tuple[str, ...] = ()
    engine_url: str = ""
    cluster_id: str = "osd"
    management_ip: str = ""
    data_ip: str = ""


def open_(
    url: str, volumes: registry.Registry, place: Place, *, lease: float = LEASE
) -> ownership.Ownership:
    """Return what a coordination URL means. Nothing is contacted yet.

    :param url: "" or ``file:///directory`` for one host;
        ``etcd3+http://192.0.2.1:2379,192.0.2.2:2379,192.0.2.3:2379`` for many. Options of etcd:
        ca_cert, cert_cert and cert_key, which are paths of PEM files.
    :param lease: seconds.
    :raises HostNotReady: the URL or the lease can't be used.
    """
    scheme = urllib.parse.urlsplit(url).scheme
    if not url:
        return ownership.Alone(volumes, place.node_id)
    described = figures.Figures(place.node_id, place.management_ip, place.data_ip)
    if scheme == "file":
        beat = heart.Heart(volumes, described.node, lambda: {place.node_id}, _PAUSE)
        return single.OneHost(volumes, place.node_id, url, beat)
    if scheme not in ("etcd3", "etcd3+http", "etcd3+https"):
        raise exceptions.HostNotReady(
            f"{scheme or url}: leases are to be had of etcd3+http and etcd3+https; file is for "
            "one host."
        )
    if not SHORTEST_LEASE <= lease <= 3600:
        raise exceptions.HostNotReady(
            f"A lease lasts {SHORTEST_LEASE} to 3600 seconds, not {lease}."
        )
    return _cluster(url, volumes, place, leases.Times(int(lease)), described)


def _cluster(
    url: str,
    volumes: registry.Registry,
    place: Place,
    times: leases.Times,
    described: figures.Figures,
) -> owners.Cluster:
    parts = urllib.parse.urlsplit(url)
    options = dict(urllib.parse.parse_qsl(parts.query))
    odd = set(options) - {"ca_cert", "cert_cert", "cert_key"}
    if odd or ("cert_cert" in options) != ("cert_key" in options):
        raise exceptions.HostNotReady(
            "Options of etcd are ca_cert, and cert_cert with cert_key; "
            f"got {', '.join(sorted(options))}."
        )
    held = etcd.EtcdLeases(
        etcd.servers(parts.netloc),
        f"/container-stack/{place.cluster_id}/nodes",
        times,
        protocol="https" if parts.scheme.endswith("https") else "http",
        certificates=options,
    )
    file = record.File(os.path.join(place.state_dir, "lease"))
    helper = place.helper or executor.default_helper()
    # Of its own, so that no hanging mount is waited for.
    run = executor.Executor(helper, state_dir=place.state_dir, short=1, long=1)
    told = guard.argv(file.directory, place.state_dir, helper, place.engine_url)
    end = ending.Ending(run, place.state_dir, place.engine_url)

    def joined() -> None:
        volumes.release_all(place.node_id)

    member = membership.Membership(
        place.node_id, held, file, guarding.Guarding(file.directory, told), end, joined
    )

    def describe() -> model.Node:
        try:
            member.check()
        except exceptions.ServiceUnavailable:
            return described.node(model.Status.DOWN)
        return described.node()

    beat = heart.Heart(volumes, describe, held.holders, times.renew)
    releases = records.Records(os.path.join(file.directory, "releases"))
    return owners.Cluster(volumes, held, member, releases, beat)
