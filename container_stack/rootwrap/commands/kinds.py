# SPDX-License-Identifier: Apache-2.0
"""The shape of every value that a privileged command can take."""

from collections.abc import Mapping

_NAME = r"[a-z0-9][a-z0-9_-]*(?:\.[a-z0-9_-]+)*"
_GROUP = r"[A-Za-z0-9_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*"
_LOOP = r"/dev/loop[0-9]+"
# Everybody may make links in /dev/shm and /dev/mqueue: no volume group is called so.
_DEV = "/dev/(?!shm/|mqueue/)"
_LV = rf"{_DEV}{_GROUP}/cs-{_NAME}"
_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
# What tenants call a volume of Open Storage: it can't begin with a dot.
_PLACE = "[A-Za-z0-9][A-Za-z0-9_.-]*"
# Below resize/ a volume is mounted for a moment that nobody uses: file systems grow mounted only.
_MOUNT = rf"<state>/(?:mounts|resize)/{_PLACE}(?:/{_PLACE})*"
_KEPT = rf"<state>/backends/{_PLACE}"
# Where an NFS server's directory is mounted, and a link to one that is this host's own.
_ROOT = f"{_KEPT}/(?:export|local)"
_HOST = r"[A-Za-z0-9][A-Za-z0-9-]*(?:\.[A-Za-z0-9-]+)*"
_WORD = "[A-Za-z0-9_-][A-Za-z0-9._-]*"
_NITRO = "nvme-Amazon_Elastic_Block_Store_vol[0-9a-f]+"
# What is left of a port's id in the name of a link.
_PORT = "[0-9a-f]{8}-[0-9a-f]{2}"
# Of the engine's storage: a layer of an image or a container. What is mounted of it is without
# setuid and devices.
_LAYER = rf"(?:/{_WORD})+/overlay2/[0-9a-f]{{64}}"
_IP4 = r"[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+"
_IP6 = r"[0-9a-f]*:[0-9a-f:]*"

#: The shape of every value that a template can take; ``<state>`` is the state directory.
KINDS: Mapping[str, str] = {
    "access": "(?:rw|ro)",
    "address4": f"{_IP4}/[0-9]+",
    "address6": f"{_IP6}/[0-9]+",
    "alone4": _IP4,
    "alone6": _IP6,
    "bridge": _GROUP,
    "btrfs": _KEPT,
    "container": "[0-9a-f]{64}",
    "count": "(?:0|[1-9][0-9]*)",
    "destination": f"(?:{_IP4}|{_IP6})/[0-9]+",
    "device": rf"(?:{_LOOP}|{_LV})",
    "digest": "[0-9a-f]{16}",
    # Links of root's own: see container_stack.rootwrap.disk.
    "disk": f"/run/container-stack-disks/{_UUID}",
    # As udev and Xen show it. What has the letters a to e is somebody else's, such as the root.
    "ebs": rf"/dev/(?:disk/by-id/{_NITRO}|xvd(?:[f-p]|[bc][a-z]))",
    "export": f"{_KEPT}/export",
    "group": _GROUP,
    "gateway": f"(?:{_IP4}|{_IP6})",
    "id": _UUID,
    "image": rf"<state>/volumes/{_NAME}\.img",
    "inbox": rf"{_KEPT}/inbox/{_UUID}",
    "inside": "eth[0-9][0-9]?",
    "kept": f"{_KEPT}/volumes/{_UUID}",
    "layer_diff": f"{_LAYER}/diff",
    "layer_work": f"{_LAYER}/work",
    "layers": f"{_LAYER}(?:-init)?/diff(?::{_LAYER}(?:-init)?/diff)*",
    "loop": _LOOP,
    "mac": "[0-9a-f][02468ace](?::[0-9a-f]{2}){5}",
    # Linux bridges that we make: of a network, of a port; the names of two kinds are Neutron's.
    "made_bridge": f"(?:csb[0-9a-f]{{12}}|(?:brq|qbr){_PORT})",
    "mountpoint": _MOUNT,
    "nfs_data": f"{_ROOT}/{_UUID}/data",
    "nfs_options": r"(?:soft|hard)(?:\x2cvers=(?:3|4|4\.[0-2]))?",
    "nfs_root": _ROOT,
    # What a container is to call a disk; the first is where others have the root.
    "node": "/dev/(?:vd|sd|xvd|hd)(?:[b-z]|[a-z][a-z])",
    "nfs_source": rf"(?:{_HOST}|\[{_IP6}\]):/(?:{_WORD}(?:/{_WORD})*)?",
    "place": _PLACE,
    "plug": "csp[0-9a-f]{12}",
    "port": _GROUP,
    "port_bridge": f"qbr{_PORT}",
    "port_inner": f"qvb{_PORT}",
    "port_outer": f"qvo{_PORT}",
    # What Docker names the network namespace of a container; the host's own is "default".
    "sandbox": "/(?:var/)?run/docker/netns/[0-9a-f]{12}",
    "silent": f"(?:csb[0-9a-f]{{12}}|(?:brq|qbr|tap){_PORT})",
    "size": "[1-9][0-9]*",
    "snapshot": rf"{_GROUP}/css-{_NAME}",
    "snapshot_device": rf"{_DEV}{_GROUP}/css-{_NAME}",
    "snapshot_name": f"css-{_NAME}",
    "stream": rf"<state>/streams/{_UUID}",
    # Whole, half-made, about to be replaced, or just received.
    "subvolume": rf"{_KEPT}/(?:volumes/(?:(?:new|old)\.)?|inbox/{_UUID}/){_UUID}",
    "switched": f"(?:tap|qvo){_PORT}",
    "tag": r"container_stack\.[a-z]+=[A-Za-z0-9_+.=&-]*",
    # As Neutron's agents know the interface of a port.
    "tap": f"tap{_PORT}",
    "tap_chain": f"cs-tap{_PORT}-[0-9a-f]{{8}}",
    "tree": "<state>/mounts",
    "volume": f"{_GROUP}/cs-{_NAME}",
    "volume_device": _LV,
    "volume_name": f"cs-{_NAME}",
    "volume_or_snapshot": f"{_GROUP}/css?-{_NAME}",
}
