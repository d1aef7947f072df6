# SPDX-License-Identifier: Apache-2.0
"""``container-stack share``: the shares and share servers of a back end, as they are now."""

import argparse
from typing import Any

from cliff import lister, show

from container_stack.cmd import backend
from container_stack.shares import assembly


class List(lister.Lister):
    """List the shares of a back end."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        backend.add_arguments(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        shares = assembly.open_service(backend.settings(parsed_args)).list()
        columns = ("ID", "Server", "Size", "Export location")
        return columns, [(s.id, s.server_id, s.size, s.export_location) for s in shares]


class ServerList(lister.Lister):
    """List the share servers of a back end."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        backend.add_arguments(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        servers = assembly.open_service(backend.settings(parsed_args)).servers.list()
        columns = ("ID", "State", "Address", "Subnet", "Container")
        return columns, [
            (s.id, s.state, s.spec.address, s.spec.subnet.cidr, s.container_id[:12])
            for s in servers
        ]


class ServerShow(show.ShowOne):
    """Show one share server: its network, its container and its shares."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("server", metavar="ID")
        backend.add_arguments(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        service = assembly.open_service(backend.settings(parsed_args))
        server = service.servers.get(parsed_args.server)
        spec, subnet = server.spec, server.spec.subnet
        fields: dict[str, Any] = {
            "id": server.id,
            "state": server.state,
            "address": spec.address,
            "subnet": subnet.cidr,
            "gateway": subnet.gateway,
            "mtu": subnet.mtu,
            "mac": spec.mac,
            "port": spec.port_id,
            "container": server.container_id,
            "shares": [share.id for share in service.list() if share.server_id == server.id],
        }
        return tuple(fields), tuple(fields.values())
