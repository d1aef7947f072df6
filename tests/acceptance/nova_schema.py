# SPDX-License-Identifier: Apache-2.0
"""What nova-manage does for a new cloud, in one process: each start of it takes seconds.

Run as ``python -m acceptance.nova_schema CONFIG CELL0``, the last being the URL of cell0's
database.
"""

import sys


def main() -> None:
    config, cell0 = sys.argv[1:]
    from nova import config as nova_config
    from nova import objects
    from nova.cmd import manage

    nova_config.parse_args(["nova-manage", f"--config-file={config}"])
    objects.register_all()
    assert not manage.ApiDbCommands().sync()
    assert not manage.CellV2Commands().map_cell0(cell0)
    assert manage.CellV2Commands().create_cell("cell1") in (0, None)
    assert not manage.DbCommands().sync()


if __name__ == "__main__":
    main()
