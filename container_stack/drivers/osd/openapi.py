# SPDX-License-Identifier: Apache-2.0
"""The interface, described for machines: OpenAPI 3.1, at /v1/openapi.json."""

from typing import Any

import falcon

from container_stack.drivers.osd import forms

Schema = dict[str, Any]

#: Media types. Clients are told text, as the original tells them; it holds JSON all the same.
_TEXT, _JSON = "text/plain; charset=utf-8", "application/json"

_WORD: Schema = {"type": "string"}
_TEXTS: Schema = {"type": ["object", "null"], "additionalProperties": _WORD}
_WHOLE: Schema = {"type": "integer"}
_SWITCH: Schema = {"type": "integer", "enum": [0, 1, 2]}
_FLAG: Schema = {"type": "boolean"}
_ID: Schema = {"type": "string", "format": "uuid"}


def _object(*required: str, **properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required)}


_SOURCE = _object(Parent=_WORD, Seed=_WORD)
_SIZE: Schema = {"type": "integer", "minimum": 1, "maximum": 2**62, "description": "Bytes."}
_MINUTES: Schema = {"type": "integer", "minimum": 0, "maximum": 525600, "description": "Minutes."}
_SPEC = _object(
    Ephemeral=_FLAG,
    Size=_SIZE,
    Format=_WORD,
    BlockSize=_WHOLE,
    HALevel=_WHOLE,
    Cos=_WHOLE,
    Dedupe=_FLAG,
    SnapshotInterval=_MINUTES,
    SnapshotKeep={"type": "integer", "minimum": 1, "maximum": 1000},
    ConfigLabels=_TEXTS,
)
_LOCATOR = _object(Name=_WORD, VolumeLabels=_TEXTS)
_LATER_LOCATOR = _object(name=_WORD, volume_labels=_TEXTS)
_LATER_SPEC = _object(
    ephemeral=_FLAG,
    size=_SIZE,
    format={"type": ["integer", "string"]},
    block_size=_WHOLE,
    ha_level=_WHOLE,
    cos=_WHOLE,
    dedupe=_FLAG,
    snapshot_interval=_MINUTES,
    snapshot_keep={"type": "integer", "minimum": 1, "maximum": 1000},
    volume_labels=_TEXTS,
)
_ACTIONS: dict[str, Schema] = {
    "format": _SWITCH,
    "attach": _SWITCH,
    "mount": _SWITCH,
    "mount_path": _WORD,
    "device_path": _WORD,
}
_BODIES: dict[str, tuple[Schema, Schema]] = {
    "create": (
        _object("locator", "spec", locator=_LOCATOR, source=_SOURCE, spec=_SPEC),
        _object("locator", "spec", locator=_LATER_LOCATOR, source=_object(), spec=_LATER_SPEC),
    ),
    "change": (
        _object(**_ACTIONS, locator=_LOCATOR, spec=_SPEC),
        _object(action=_object(**_ACTIONS), locator=_LATER_LOCATOR, spec=_LATER_SPEC),
    ),
    "snapshot": (
        _object("id", id=_ID, locator=_LOCATOR, readonly=_FLAG),
        _object("id", id=_ID, locator=_LATER_LOCATOR, readonly=_FLAG),
    ),
}
_DRIVER = _object("name", name=_WORD, options=_TEXTS)
_LISTS = ("Name", "Label", "ConfigLabel", "VolumeID", "After", "Limit")
_PARAMETERS: dict[str, Schema] = {
    "Label": {"type": "string", "description": "A JSON object; each key with its value."},
    "ConfigLabel": {"type": "string", "description": "The same of the specification's."},
    "VolumeID": {"type": "array", "items": _ID},
    "After": {"type": "string"},
    "Limit": {"type": "integer", "minimum": 0, "maximum": 999999999},
    "SnapID": _ID,
    "id": {"type": "array", "items": _WORD},
    "Hours": {"type": "integer", "minimum": 0, "maximum": 999999999},
}


class Document:
    """The falcon resource of it."""

    def __init__(self, described: Schema) -> None:
        self._data = forms.encode(described)

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Return it."""
        response.content_type = _JSON
        response.data = self._data


def _operation(
    summary: str,
    *,
    path: tuple[str, ...] = (),
    query: tuple[str, ...] = (),
    needed: tuple[str, ...] = (),
    body: Schema | None = None,
    errors: tuple[int, ...] = (),
) -> Schema:
    responses: Schema = {"200": _response(summary, {})}
    # Every request may be unreadable; every answer may need a database that is away.
    for status in {400, 503, *errors}:
        responses[str(status)] = _response("Why not", _WORD)
    found: Schema = {
        "summary": summary,
        "parameters": [_parameter(name, "path", True) for name in path]
        + [_parameter(name, "query", name in needed) for name in query],
        "responses": responses,
    }
    if body is not None:
        found["requestBody"] = {"required": True, "content": {_JSON: {"schema": body}}}
    return found


def _get(
    summary: str, *errors: int, path: tuple[str, ...] = (), query: tuple[str, ...] = ()
) -> Schema:
    return {"get": _operation(summary, path=path, query=query, errors=errors)}


def _put(summary: str, *errors: int, path: tuple[str, ...] = ()) -> Schema:
    return {"put": _operation(summary, path=path, errors=errors)}


def _response(description: str, answer: Schema) -> Schema:
    return {"description": description, "content": {_TEXT: {"schema": answer}}}


def _parameter(name: str, place: str, required: bool) -> Schema:
    schema = _ID if name == "volume_id" else _PARAMETERS.get(name, _WORD)
    return {"name": name, "in": place, "required": required, "schema": schema}


def _volumes(base: str, snapshots: str, era: int) -> Schema:
    bodies = {name: both[era] for name, both in _BODIES.items()}
    one, versions = ("volume_id",), _get("Versions of the interface")
    figures = {
        f"{base}/{name}/{{volume_id}}": _get(f"The {name} of a volume", path=one)
        for name in ("stats", "alerts", "usage", "usedsize", "requests")
    }
    return {
        base: {
            **_get("List volumes", query=_LISTS),
            "post": _operation("Create a volume", body=bodies["create"]),
        },
        f"{base}/{{volume_id}}": {
            **_get("Inspect a volume", path=one),
            "put": _operation("Change, attach or mount a volume", path=one, body=bodies["change"]),
            "delete": _operation("Delete a volume", path=one),
        },
        **figures,
        f"{base}/requests": _get("Changes that are being made"),
        f"{base}/versions": versions,
        f"{base.removeprefix('/v1')}/versions": versions,
        snapshots: {
            **_get("List snapshots", query=_LISTS),
            "post": _operation("Take a snapshot", body=bodies["snapshot"]),
        },
        f"{snapshots}/restore/{{volume_id}}": {
            "post": _operation("Restore a volume", path=one, query=("SnapID",), needed=("SnapID",))
        },
    }


_EVENTS = _get("What happened", 404, query=("VolumeID", "After", "Limit"))
_FILE = {"schema": _WORD}
_FILES: Schema = {f"text/{kind}; charset=utf-8": _FILE for kind in ("html", "css", "javascript")}
_NONE = {"description": "There is none", "content": {_TEXT: _FILE}}
_SELF = {"get": {"summary": "This document", "responses": {"200": {"description": "It"}}}}


def _page(*path: str) -> Schema:
    return {
        "get": {
            "summary": "The web page",
            "parameters": [_parameter(name, "path", True) for name in path],
            "responses": {"200": {"description": "A file", "content": _FILES}, "404": _NONE},
        }
    }


def _document(title: str, paths: Schema) -> Schema:
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1"},
        "paths": {**paths, "/v1/openapi.json": _SELF},
    }


DRIVER = _document(
    "Open Storage: volumes of a driver",
    {
        **_volumes("/v1/volumes", "/v1/snapshot", 0),
        **_volumes("/v1/osd-volumes", "/v1/osd-snapshot", 1),
        "/v1/events": _EVENTS,
        "/v1/cluster": _get("The cluster", 500),
    },
)
CLUSTER = _document(
    "Open Storage: the cluster",
    {
        "/v1/cluster": {
            **_get("The cluster", 500),
            "delete": _operation("Forget nodes", query=("id",), needed=("id",)),
        },
        "/v1/cluster/enumerate": _get("The cluster", 500),
        "/v1/cluster/inspect/{node_id}": _get("A node", 404, path=("node_id",)),
        "/v1/cluster/status": _get("What nodes said"),
        "/v1/cluster/gossipstate": _get("What nodes said"),
        "/v1/cluster/nodestatus": _get("This node's status"),
        "/v1/cluster/nodehealth": _get("Whether this node serves"),
        "/v1/cluster/enablegossip": _put("Nothing"),
        "/v1/cluster/disablegossip": _put("Nothing"),
        "/v1/cluster/shutdown": _put("Nothing", 501),
        "/v1/cluster/shutdown/{node_id}": _put("Nothing", 501, path=("node_id",)),
        "/cluster/versions": _get("Versions of the interface"),
        "/v1/drivers": {
            **_get("Drivers"),
            "post": _operation("Add a driver", body=_DRIVER),
        },
        "/v1/drivers/{driver}/volumes": _get(
            "Volumes of a driver", 404, path=("driver",), query=("After", "Limit")
        ),
        "/v1/drivers/{driver}/volumes/{volume_id}/samples": _get(
            "Usage over time", 404, path=("driver", "volume_id"), query=("Hours",)
        ),
        "/v1/nodes": _get("The nodes"),
        "/v1/alerts": _get("Standing alerts"),
        "/v1/activity": _get("What this node's volumes have done so far"),
        "/": _page(),
        "/page/{name}": _page("name"),
        "/v1/events": _EVENTS,
    },
)
