# SPDX-License-Identifier: Apache-2.0
"""The registry against its public suite, in every kind of database."""

import contextlib
import functools
import pathlib
from collections.abc import Callable, Iterator

import pytest

from container_stack.testing import registry_contract, registry_world, sql_servers
from container_stack.volumes import sql


class TestSQLite(registry_contract.RegistryContract):
    @pytest.fixture
    def open_registry(self, tmp_path: pathlib.Path) -> registry_world.Open:
        return lambda: sql.open(f"sqlite:///{tmp_path}/osd.sqlite")


@pytest.fixture(scope="module")
def servers() -> Iterator[Callable[[str], sql_servers.Server]]:
    with contextlib.ExitStack() as undo:
        run = lambda kind: undo.enter_context(sql_servers.running(kind))  # noqa: E731
        yield functools.cache(run)


class _OnServer(registry_contract.RegistryContract):
    kind = ""

    @pytest.fixture
    def open_registry(self, servers: Callable[[str], sql_servers.Server]) -> registry_world.Open:
        url = servers(self.kind).database()
        return lambda: sql.open(url)


class TestMariaDB(_OnServer):
    kind = "mariadb"


class TestPostgreSQL(_OnServer):
    kind = "postgresql"
