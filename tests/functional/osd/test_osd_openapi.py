# SPDX-License-Identifier: Apache-2.0
"""The interface keeps to its own description, whatever is sent; nothing makes it stumble."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks as openapi_checks

from container_stack.testing import memory_volumes

from . import osd_rest

KEEPERS = {"files": memory_volumes.MemoryVolumes, "blocks": memory_volumes.MemoryBlocks}
SETTINGS = hypothesis.settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
#: A server error is checked by itself: one that says it can't do something is no bug.
CHECKS = [
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[osd_rest.World]:
    directory = tmp_path_factory.mktemp("cstest-openapi")
    with osd_rest.world(directory, KEEPERS, cluster_id="cstest") as made:
        made.driver("files").create("one", SnapshotInterval=5)
        yield made


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize("base", ["/driver/files", "/driver/blocks", "/cluster"])
def test_answers_are_as_described(world: osd_rest.World, base: str, mode: GenerationMode) -> None:
    """Both to what the description allows, and to what it doesn't."""
    schema = schemathesis.openapi.from_wsgi("/v1/openapi.json", world.rest.applications[base])
    asked = 0
    for found in schema.get_all_operations():
        operation = found.ok()

        @SETTINGS
        @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
        def check(case: Any) -> None:
            nonlocal asked
            asked += 1
            answer = case.call()
            assert answer.status_code != 500, answer.text
            assert b"Traceback" not in answer.content
            case.validate_response(answer, checks=CHECKS)

        # What has no parameters can't be asked wrongly.
        with contextlib.suppress(hypothesis.errors.Unsatisfiable):
            check()
    assert asked > 20


@pytest.mark.parametrize("base", ["/driver/files", "/cluster"])
def test_every_route_is_described(world: osd_rest.World, base: str) -> None:
    application: Any = world.rest.applications[base]
    client = osd_rest.Client(
        world.driver("files").connection if base != "/cluster" else world.cluster().connection
    )
    described = client.ask("GET", "/v1/openapi.json")["paths"]
    served = set()

    def walk(nodes: Any) -> None:
        for node in nodes:
            if node.resource is not None:
                served.add(node.uri_template)
            walk(node.children)

    walk(application._router._roots)
    assert served == set(described)


_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["\ud800", "\x00", "../../etc", "/etc", "x" * 5000, 2**64, -1, 1e308])
)
_PARTS = ("locator", "source", "spec", "action", "id", "readonly", "format", "attach", "mount")
_FIELDS = ("Name", "VolumeLabels", "volume_labels", "Parent", "Size", "mount_path", "Cos")
_KEYS = st.sampled_from(_PARTS + _FIELDS)
_BODIES = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(_KEYS | st.text(), inner, max_size=6)
    ),
    max_leaves=12,
)
_WHERE = st.sampled_from(
    [
        ("POST", "/v1/volumes"),
        ("POST", "/v1/osd-volumes"),
        ("PUT", "/v1/volumes/{}"),
        ("PUT", "/v1/osd-volumes/{}"),
        ("POST", "/v1/snapshot"),
        ("POST", "/v1/osd-snapshot"),
    ]
)


@hypothesis.settings(SETTINGS, max_examples=400)
@hypothesis.given(where=_WHERE, body=_BODIES)
def test_no_json_makes_it_stumble(
    world: osd_rest.World, where: tuple[str, str], body: object
) -> None:
    client = world.driver("blocks")
    one = client.ask("GET", "/v1/volumes?Name=fuzzed") or [{"ID": client.create("fuzzed")}]
    status, _, answer = client.raw(
        where[0], where[1].format(one[0]["ID"]), json.dumps(body).encode()
    )
    assert status in (200, 400), answer
    assert b"Traceback" not in answer


@hypothesis.settings(SETTINGS, max_examples=200)
@hypothesis.given(where=_WHERE, body=st.binary(max_size=200))
def test_no_bytes_make_it_stumble(
    world: osd_rest.World, where: tuple[str, str], body: bytes
) -> None:
    status, _, answer = world.driver("files").raw(where[0], where[1], body)
    assert status in (200, 400), answer
    assert b"Traceback" not in answer
