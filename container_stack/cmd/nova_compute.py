# SPDX-License-Identifier: Apache-2.0
"""``container-stack-nova-compute``: nova-compute for an installation apart from Nova's.

Nova loads drivers from ``nova.virt`` only. Where this package and Nova are in one directory, the
package's own ``nova.virt.container_stack`` is found, and plain nova-compute does. Where they
aren't, as with Nova from the distribution and this from a directory on PYTHONPATH, Python finds
one ``nova`` and looks nowhere else for what is below it; so this module stands in.
"""

import importlib
import sys
import types

#: What nova.conf names: ``compute_driver = container_stack.DockerDriver``.
ALIAS = "nova.virt.container_stack"


def main() -> None:
    """Run nova-compute, which finds our driver wherever this package is installed."""
    # As nova.cmd.compute does, before anything that the choice concerns is imported.
    monkey_patch = importlib.import_module("nova.monkey_patch")
    monkey_patch.patch(backend="threading")
    alias()
    compute = importlib.import_module("nova.cmd.compute")
    compute.main()


def alias() -> types.ModuleType:
    """Let Nova find our driver under its own name, unless it does already; return the module."""
    try:
        return importlib.import_module(ALIAS)
    except ModuleNotFoundError as exc:
        if exc.name != ALIAS:
            raise
    sys.modules[ALIAS] = importlib.import_module("container_stack.drivers.nova.driver")
    return sys.modules[ALIAS]
