# SPDX-License-Identifier: Apache-2.0
"""The devices of a Swift ring as nodes: whoever has a ring needs no inventory.

A ring of objects names no proxies; where those run storlets, an inventory is needed.
"""

import ipaddress
import zlib

from swift.common import exceptions as swift_exceptions
from swift.common.ring import ring

from container_stack import exceptions
from container_stack.storlets.node import inventory

_BROKEN = (OSError, EOFError, ValueError, LookupError, zlib.error)


def read(path: str, url: str) -> inventory.Inventory:
    """Return the hosts of a ring file, each once, in the order of their zones.

    :param path: object.ring.gz.
    :param url: of a host's engine, with {ip} for its address: ssh://swift@{ip}.
    :raises InvalidRequest: the file is no ring, or the URL no engine's.
    """
    if "{ip}" not in url:
        raise exceptions.InvalidRequest(f"{url!r} must contain {{ip}}, or all nodes are one.")
    try:
        devices = [each for each in ring.RingData.load(path).devs if each]
    except (*_BROKEN, swift_exceptions.SwiftException) as exc:
        raise exceptions.InvalidRequest(f"{path} is no ring: {exc}") from exc
    # Holes are devices that were removed; a weight of 0 is one that still answers.
    hosts = {each["ip"]: f"r{each['region']}z{each['zone']}" for each in devices}
    order = sorted(hosts, key=lambda ip: (hosts[ip], ip))
    return inventory.Inventory(tuple(inventory.Entry(ip, _url(url, ip), hosts[ip]) for ip in order))


def _url(template: str, ip: str) -> str:
    try:
        bracketed = f"[{ip}]" if ipaddress.ip_address(ip).version == 6 else ip
    except ValueError:
        bracketed = ip
    return template.replace("{ip}", bracketed)
