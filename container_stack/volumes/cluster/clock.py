# SPDX-License-Identifier: Apache-2.0
"""The one clock that leases are measured by.

Nobody sets it, all processes of a host read the same, and it goes on while the host sleeps.
"""

import time


def now() -> float:
    """Return seconds since the host started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
