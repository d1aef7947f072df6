# SPDX-License-Identifier: Apache-2.0
"""What tenants can say and operators can allow is in the documentation, by name."""

import dataclasses
import pathlib
import re

import pytest

from container_stack.servers.wishes import parameters, policy

DOCS = pathlib.Path(__file__).parents[3] / "doc" / "source"


def words(page: str) -> set[str]:
    return set(re.findall(r"``([^`]+)``", (DOCS / page).read_text(encoding="utf-8")))


@pytest.mark.parametrize("key", [*parameters.KEYS, *parameters.HOST_CONFIG, *parameters.NESTED])
def test_every_key_of_user_data_is_documented(key: str) -> None:
    assert key in words("nova-userdata.rst")


@pytest.mark.parametrize("field", dataclasses.fields(policy.Rules))
def test_every_permission_is_documented(field: "dataclasses.Field[object]") -> None:
    said = " ".join(words("nova-security.rst"))
    assert re.search(rf"(^|[\] ]){field.name}\b", said)
