# SPDX-License-Identifier: Apache-2.0
"""``osd cluster ...``: the hosts that run the daemon."""

import argparse
import json
import urllib.parse
from typing import Any

from container_stack import exceptions
from container_stack.cmd.osd import arguments, output

ROUTE = "/v1/cluster"
_STATUS = {1: "Initializing", 2: "OK", 3: "Off Line", 4: "Error", 5: "Not in Quorum", 9: "Degraded"}
#: What a node said last, as the original counts it.
_GOSSIP = {1: "Up", 2: "Down", 3: "Invalid", 4: "Node not yet gossiped"}


def _add_machines(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("node", nargs="*", help="only these nodes; default: all")
    arguments.flag(
        parser, "machine", "m", default="", metavar="ID,...", help="the same, in one word"
    )


def status(context: arguments.Context, args: argparse.Namespace) -> None:
    """Print the cluster and its nodes."""
    found = _enumerated(context, args)
    rows = [
        (
            node.get("Id", ""),
            node.get("MgmtIp", ""),
            _word(node.get("Status")),
            f"{float(node.get('Cpu') or 0):.1f}",
            output.size(int(node.get("MemTotal") or 0)),
            output.size(int(node.get("MemFree") or 0)),
        )
        for node in found["Nodes"]
    ]
    columns = ("ID", "MGMT IP", "STATUS", "CPU", "MEM TOTAL", "MEM FREE")
    text = (
        f"Cluster Information:\nCluster ID {found.get('Id')}: Status: {_word(found.get('Status'))}"
        f"\n\nLoad Information:\n{output.aligned(columns, rows)}\n"
    )
    context.printer.cluster(found, text)


def enumerate_(context: arguments.Context, args: argparse.Namespace) -> None:
    """Print the nodes' ids."""
    found = _enumerated(context, args)
    context.printer.cluster(found, "\n".join(str(node.get("Id")) for node in found["Nodes"]))


def inspect(context: arguments.Context, args: argparse.Namespace) -> None:
    """Print all that is known of the nodes."""
    found = _enumerated(context, args)
    context.printer.cluster(found, json.dumps(found["Nodes"], indent=1, ensure_ascii=False))


def gossip_status(context: arguments.Context, args: argparse.Namespace) -> None:
    """Print when each node was last heard of."""
    found = context.client.call("GET", f"{ROUTE}/status")
    if context.printer.json:
        context.printer.result(found)
        return
    rows = [
        (node.get("Id"), node.get("LastUpdateTs"), _GOSSIP.get(node.get("Status"), "Up"))
        for node in found.get("NodeStatus") or ()
    ]
    context.printer.write("Individual Node Status")
    context.printer.write(output.aligned(("ID", "LAST UPDATE TS", "STATUS"), rows))


def enable_gossip(context: arguments.Context, args: argparse.Namespace) -> None:
    """Let this node take part again."""
    context.client.done("PUT", f"{ROUTE}/enablegossip")


def disable_gossip(context: arguments.Context, args: argparse.Namespace) -> None:
    """Let this node say nothing to the others."""
    context.client.done("PUT", f"{ROUTE}/disablegossip")


def shutdown(context: arguments.Context, args: argparse.Namespace) -> None:
    """End the daemon."""
    for each in _machines(args) or [""]:
        context.client.done("PUT", f"{ROUTE}/shutdown/{urllib.parse.quote(each)}".rstrip("/"))


def remove(context: arguments.Context, args: argparse.Namespace) -> None:
    """Forget nodes that own nothing any more."""
    machines = _machines(args)
    if not machines:
        raise output.missing("remove", "machine", "Which nodes")
    context.client.done("DELETE", ROUTE, query=[("id", each) for each in machines])
    context.printer.ids(*machines)


def _enumerated(context: arguments.Context, args: argparse.Namespace) -> dict[str, Any]:
    found = context.client.done("GET", f"{ROUTE}/enumerate")
    wanted = _machines(args)
    nodes = [
        node for node in found.get("Nodes") or () if node.get("Id") in (wanted or [node["Id"]])
    ]
    missing = set(wanted) - {node["Id"] for node in nodes}
    if missing:
        raise exceptions.NotFound(f"There is no node {', '.join(sorted(missing))}.")
    return {**found, "Nodes": nodes}


def _machines(args: argparse.Namespace) -> list[str]:
    return [*args.node, *filter(None, args.machine.split(","))]


def _word(value: object) -> str:
    return _STATUS.get(value, str(value)) if isinstance(value, int) else str(value)


_Command = arguments.Command
COMMANDS = (
    _Command("status", "show the cluster", status, _add_machines, ("s",)),
    _Command("enumerate", "show the nodes' ids", enumerate_, _add_machines, ("e",)),
    _Command("inspect", "show all about nodes", inspect, _add_machines, ("i", "l")),
    _Command("gossip-status", "show who was heard of when", gossip_status, aliases=("gs",)),
    _Command(
        "enable-gossip", "does nothing: nodes tell the registry", enable_gossip, aliases=("eg",)
    ),
    _Command("disable-gossip", "does nothing, too", disable_gossip, aliases=("dg",)),
    _Command("remove", "forget dead nodes", remove, _add_machines, ("r",)),
    _Command("shutdown", "is refused: the service manager ends daemons", shutdown, _add_machines),
)
