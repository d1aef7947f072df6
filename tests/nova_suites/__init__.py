# SPDX-License-Identifier: Apache-2.0
"""Nova's own suites, over our driver and the engine of this machine.

They run in a process of their own, because Nova's fixtures change it for good.
"""

import importlib
import os

# Nova's tests choose by this when they are first imported; nova-compute runs on threads, too.
# They refuse to, once anything has imported eventlet, as our other tests' libraries do.
os.environ["OS_NOVA_DISABLE_EVENTLET_PATCHING"] = "1"
importlib.import_module("nova.tests.functional")
