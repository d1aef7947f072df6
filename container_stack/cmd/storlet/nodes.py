# SPDX-License-Identifier: Apache-2.0
"""``container-stack storlet node``: the engines that deployments reach."""

import argparse

from cliff import lister

from container_stack.cmd import exit_code
from container_stack.cmd.storlet import bars, opening, options
from container_stack.storlets import gateway


class List(lister.Lister):
    """List the nodes of the inventory, or of the ring, without asking them (storlet manager)."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        options.add_config(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> options.Table:
        with opening.extra():
            from container_stack.drivers import storlet_nodes
        listed = storlet_nodes.entries(options.settings(parsed_args))
        rows = [(each.name, each.url, each.zone) for each in listed.entries]
        return ("Node", "Engine", "Zone"), rows


class Check(exit_code.ExitCode, lister.Lister):
    """Ask all nodes whether an image could be deployed there (storlet manager).

    Nothing is changed. The exit code is 0 when all are ready.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        options.add_config(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> options.Table:
        with opening.extra():
            from container_stack.drivers import storlet_nodes
        values = options.settings(parsed_args)
        nodes = storlet_nodes.all_of(values, gateway.Gateway.read(values.gateway_conf))
        rows = []
        with bars.Bars(self.app.stderr) as progress:
            for name, error, seconds in storlet_nodes.check(nodes, values.rollout.concurrency):
                rows.append((name, "failure" if error else "ok", round(seconds, 2), error))
                progress.count("Asking nodes", len(rows), len(nodes))
        self.code = int(any(row[3] for row in rows))
        return ("Node", "State", "Seconds", "Error"), sorted(rows)
