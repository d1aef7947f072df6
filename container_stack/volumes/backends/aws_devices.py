# SPDX-License-Identifier: Apache-2.0
"""Where the kernel shows an EBS volume that is attached, and what names EC2 may be given for one.

On Nitro instances they are NVMe disks, whose serial number is the volume's id: udev links to them.
On older ones Xen gives them the name under which they were attached: /dev/sdf becomes /dev/xvdf.
Amazon's "Device names for volumes on Amazon EC2 instances" has which names are free.
"""

import os
import string
from collections.abc import Callable, Iterable

from container_stack import exceptions

#: Returns the path of a device, given the volume's id at Amazon's and the name under which it was
#: attached, or "" while there is none.
Find = Callable[[str, str], str]

_BY_ID = "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_"
_NAMES = (
    *(f"/dev/sd{letter}" for letter in string.ascii_lowercase[5:16]),
    *(f"/dev/xvd{first}{last}" for first in "bc" for last in string.ascii_lowercase),
)


def find(disk_id: str, name: str) -> str:
    """Return the path of an attached volume's device, or "" while there is none."""
    nitro = _BY_ID + disk_id.replace("-", "")
    xen = name.replace("/dev/sd", "/dev/xvd")
    return next((path for path in (nitro, xen) if os.path.exists(path)), "")


def size(device: str) -> int:
    """Return the bytes that the kernel shows of a device."""
    number = os.stat(device).st_rdev
    path = f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/size"
    with open(path, encoding="ascii") as file:
        return int(file.read()) * 512


def free_name(taken: Iterable[str]) -> str:
    """Return a name under which nothing is attached.

    :raises NoSpace: there is none.
    """
    used = {name.replace("/dev/sd", "/dev/xvd") for name in taken}
    for name in _NAMES:
        if name.replace("/dev/sd", "/dev/xvd") not in used:
            return name
    raise exceptions.NoSpace("Nothing more can be attached to this instance.")
