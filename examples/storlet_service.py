# SPDX-License-Identifier: Apache-2.0
"""Deploy an account's image from a program of your own.

``storlet_service.py container-stack.conf AUTH_305f5f3d12834be187238e080b8643e4 painter.tar``;
credentials come from the environment, as OS_... or ST_... variables.
"""

import sys

from container_stack import exceptions
from container_stack.conf import storlets as conf
from container_stack.drivers import storlets, swift


def main(config: str, name: str, image: str) -> int:
    """Verify, deploy, and say how nodes stand."""
    store = swift.Swift(swift.Credentials.from_environment())
    manager = storlets.ImageManager(conf.read([config]), store, who="nightly job")
    try:
        account = manager.account(name)
        result = manager.deploy(account, image, note="by a program")
    except exceptions.ContainerStackError as exc:
        print(f"Not deployed: {exc}")
        return 1
    print("Version", result.version and result.version.number)
    for node in manager.deployer.status(account).nodes:
        print(node.node, node.verdict)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
