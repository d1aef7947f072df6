# SPDX-License-Identifier: Apache-2.0
"""``python swift_rings.py DIRECTORY RING:DEVICE:PORT...``: make rings, a replica on each device."""

import sys
from collections import defaultdict
from pathlib import Path

from swift.common import ring


def main() -> None:
    directory, *words = sys.argv[1:]
    rings = defaultdict(list)
    for word in words:
        name, device, port = word.split(":")
        rings[name].append((device, int(port)))
    for name, devices in rings.items():
        builder = ring.RingBuilder(4, len(devices), 0)
        for zone, (device, port) in enumerate(devices, 1):
            place = {"ip": "127.0.0.1", "port": port, "device": device}
            builder.add_dev({**place, "region": 1, "zone": zone, "weight": 1.0})
        builder.rebalance()
        builder.get_ring().save(str(Path(directory, f"{name}.ring.gz")))


if __name__ == "__main__":
    main()
