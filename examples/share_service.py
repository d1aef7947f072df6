# SPDX-License-Identifier: Apache-2.0
"""A share for a user, with no OpenStack: an operator's own service, such as a systemd unit.

``share_service.py serve docs alice 10.66.0.0/24`` makes the share if it is missing, brings it back
after a reboot, and prints where it is and the user's password. ``share_service.py remove docs``
deletes it. Both may be run again at any time.
"""

import argparse
import contextlib
import ipaddress

from container_stack import exceptions
from container_stack.shares import assembly, cifs, model, service

GIB = 1024**3


def serve(shares: service.ShareService, name: str, user: str, cidr: str, size_gb: int) -> str:
    """Serve a share to one user; return where it is, and his password."""
    address = str(ipaddress.ip_network(cidr)[10])
    subnet = model.Subnet(id=f"{name}-net", cidr=cidr)
    shares.create_server(model.ServerSpec(id=name, subnet=subnet, address=address))
    share = shares.create(name, name, size_gb * GIB)
    passwords = shares.set_rules(name, [cifs.Rule("user", user, "rw")])
    return f"{share.export_location} {user} {passwords[user]}"


def remove(shares: service.ShareService, name: str) -> None:
    """Delete a share with all that is in it, and its server."""
    with contextlib.suppress(exceptions.NotFound):
        shares.delete(name)
    shares.delete_server(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state-dir", default="/var/lib/container-stack")
    parser.add_argument("--root-helper", help="default: the daemon, through sudo if need be")
    actions = parser.add_subparsers(dest="action", required=True)
    serving = actions.add_parser("serve")
    for word in ("name", "user", "subnet"):
        serving.add_argument(word)
    serving.add_argument("--size-gb", type=int, default=1)
    actions.add_parser("remove").add_argument("name")
    args = parser.parse_args()

    settings = assembly.Settings(
        owner="share-service", state_dir=args.state_dir, root_helper=args.root_helper
    )
    assembly.check(settings)
    shares = assembly.open_service(settings)
    shares.recover()
    if args.action == "serve":
        print(serve(shares, args.name, args.user, args.subnet, args.size_gb))
    else:
        remove(shares, args.name)


if __name__ == "__main__":
    main()
