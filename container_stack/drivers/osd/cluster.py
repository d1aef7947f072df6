# SPDX-License-Identifier: Apache-2.0
"""What can be asked of the nodes, which are those of the registry.

Nothing gossips here: nodes tell the registry how they are, which their leases need. So what turns
gossip on and off is taken, as the original's clients expect, and changes nothing.
"""

import dataclasses

import falcon

from container_stack import exceptions
from container_stack.drivers.osd import answers, body, forms
from container_stack.volumes import model, ownership, registry

#: Numbers of the original's Status.
OK, OFFLINE, NOT_IN_QUORUM, DEGRADED = 2, 3, 5, 9
#: How many exchanges of gossip the original remembers; clients count on the list.
_HISTORY = 20
_STATUS = {
    model.Status.UP: OK,
    model.Status.DOWN: OFFLINE,
    model.Status.NOT_PRESENT: OFFLINE,
    model.Status.DEGRADED: DEGRADED,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Cluster:
    """What resources look at.

    :param cluster_id: "" where hosts weren't made a cluster.
    """

    cluster_id: str
    registry: registry.Registry
    ownership: ownership.Ownership

    def nodes(self) -> list[forms.Json]:
        """Return all nodes; a host that stands alone is one, too."""
        own = self.ownership.node_id
        found = {each.id: each for each in self.registry.nodes()}
        found.setdefault(own, model.Node(own))
        return [self._node(found[each]) for each in sorted(found)]

    def status(self) -> int:
        """Tell whether this node may serve."""
        try:
            self.ownership.check()
        except exceptions.ServiceUnavailable:
            return NOT_IN_QUORUM
        return OK

    def _node(self, node: model.Node) -> forms.Json:
        status = _STATUS[node.status]
        if node.id == self.ownership.node_id and status == OK:
            status = self.status()
        return {
            "Id": node.id,
            "Cpu": node.cpu,
            "MemTotal": node.memory_total,
            "MemUsed": node.memory_used,
            "MemFree": max(node.memory_total - node.memory_used, 0),
            "Avgload": int(node.load),
            "Status": status,
            "GenNumber": node.generation,
            "Luns": {},
            "MgmtIp": node.management_ip,
            "DataIp": node.data_ip,
            "Timestamp": forms.rfc3339(node.timestamp),
            "Hostname": node.hostname,
            "NodeData": {},
        }


class Resource:
    """One path."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster


class Enumerate(Resource):
    """/v1/cluster and /v1/cluster/enumerate"""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Return the cluster and its nodes."""
        if not self._cluster.cluster_id:
            answers.say(response, falcon.HTTP_500, "Cluster is not initialized.")
            return
        answers.put(
            response,
            {
                "Status": self._cluster.status(),
                "Id": self._cluster.cluster_id,
                "NodeId": self._cluster.ownership.node_id,
                "Nodes": self._cluster.nodes(),
            },
        )


class Remove(Enumerate):
    """/v1/cluster, where nodes are removed, too"""

    def on_delete(self, request: falcon.Request, response: falcon.Response) -> None:
        """Forget the nodes of each ``id``, which own nothing any more."""
        wanted = request.get_param_as_list("id")
        if not wanted:
            raise body.BadBody("Missing id param")
        error = ""
        try:
            for each in wanted:
                self._remove(each)
        except exceptions.ContainerStackError as exc:
            error = f"Node Remove: {exc}"
        answers.put(response, {"error": error} if error else {})

    def _remove(self, node_id: str) -> None:
        if node_id == self._cluster.ownership.node_id:
            raise exceptions.Busy(f"{node_id} is this node.")
        if node_id not in {each.id for each in self._cluster.registry.nodes()}:
            raise exceptions.NotFound("There is no such node.")
        self._cluster.registry.remove_node(node_id)


class Inspect(Resource):
    """/v1/cluster/inspect/{id}"""

    def on_get(self, request: falcon.Request, response: falcon.Response, node_id: str) -> None:
        """Return a node."""
        found = [each for each in self._cluster.nodes() if each["Id"] == node_id]
        if not found:
            raise exceptions.NotFound("There is no such node.")
        answers.put(response, found[0])


class Gossip(Resource):
    """/v1/cluster/status and /v1/cluster/gossipstate"""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Return what each node said last."""
        said = [
            {
                "Id": each["Id"],
                "GenNumber": each["GenNumber"],
                "LastUpdateTs": each["Timestamp"],
                "Status": 1 if each["Status"] == OK else 2,
                "Value": each,
            }
            for each in self._cluster.nodes()
        ]
        answers.put(response, {"History": [None] * _HISTORY, "NodeStatus": said})


class NodeStatus(Resource):
    """/v1/cluster/nodestatus"""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Return the number of this node's status."""
        answers.put(response, self._cluster.status())


class NodeHealth(Resource):
    """/v1/cluster/nodehealth"""

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with 200 or, for who balances load, 503."""
        if self._cluster.status() == OK:
            answers.say(response, falcon.HTTP_200, "Node status OK")
        else:
            answers.say(response, falcon.HTTP_503, "Node status not OK (STATUS_NOT_IN_QUORUM)")


class Switch(Resource):
    """/v1/cluster/enablegossip and /v1/cluster/disablegossip"""

    def on_put(self, request: falcon.Request, response: falcon.Response) -> None:
        """Change nothing."""
        answers.put(response, {})


class Shutdown(Resource):
    """/v1/cluster/shutdown, which is the service manager's to do, as in the original"""

    def on_put(self, request: falcon.Request, response: falcon.Response, node_id: str = "") -> None:
        """Refuse."""
        answers.say(response, falcon.HTTP_501, "Not implemented.")
