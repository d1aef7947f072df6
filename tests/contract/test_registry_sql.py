# SPDX-License-Identifier: Apache-2.0
"""What a registry in a database must do besides: versions of tables, databases in trouble."""

import concurrent.futures
import contextlib
import datetime
import os
import pathlib
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from alembic import autogenerate, migration

from container_stack import exceptions
from container_stack.testing import sql_servers
from container_stack.testing.registry_world import full, soon, volume
from container_stack.volumes import model, sql
from container_stack.volumes.sql import database, journal, schema, tables

KINDS = ("sqlite", *sql_servers.KINDS)
#: Seconds in which a database that is gone must have been given up, on a machine that is busy.
BOUND = 25


@pytest.fixture(scope="module", params=sql_servers.KINDS)
def server(request: pytest.FixtureRequest) -> Iterator[sql_servers.Server]:
    with sql_servers.running(request.param) as server:
        yield server


@pytest.fixture(scope="module")
def all_servers() -> Iterator[dict[str, sql_servers.Server]]:
    with contextlib.ExitStack() as undo:
        yield {kind: undo.enter_context(sql_servers.running(kind)) for kind in sql_servers.KINDS}


@pytest.fixture(params=KINDS)
def url(
    request: pytest.FixtureRequest,
    tmp_path: pathlib.Path,
    all_servers: dict[str, sql_servers.Server],
) -> str:
    """Every kind of empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/osd.sqlite"
    return all_servers[request.param].database()


# Versions of the tables ---------------------------------------------------------------------------


def test_migrations_make_the_tables_that_the_code_has(url: str) -> None:
    sql.open(url).close()
    opened = database.Database(url)
    with opened.transaction() as connection:
        context = migration.MigrationContext.configure(connection, opts={"compare_type": True})
        differences = autogenerate.compare_metadata(context, tables.METADATA)
    assert differences == []
    assert schema.version(opened) == schema.HEAD == schema.revisions()[-1]
    opened.close()


def test_tables_go_down_to_nothing_and_up_again(url: str) -> None:
    registry = sql.open(url)
    registry.add(volume())
    registry.close()
    opened = database.Database(url)
    for revision in [*schema.revisions()[-2::-1], "base"]:
        schema.downgrade(opened, revision)
    with opened.transaction() as connection:
        assert sa.inspect(connection).get_table_names() == ["alembic_version"]
    for revision in schema.revisions():
        schema.upgrade(opened, revision)
    opened.close()
    registry = sql.open(url)
    assert registry.list("loop") == []
    made = full()
    registry.add(made)
    assert registry.get(made.id) == made
    registry.close()


def test_administrator_can_make_the_tables_himself(url: str) -> None:
    statements = schema.statements(sa.make_url(url).get_backend_name())
    assert "CREATE TABLE volumes" in statements
    opened = database.Database(url)
    with opened.transaction() as connection:
        for statement in statements.split(";\n"):
            if statement.strip() not in ("", "BEGIN", "COMMIT"):
                connection.exec_driver_sql(statement.replace("%", "%%"))
    opened.close()
    registry = sql.open(url)
    made = full()
    registry.add(made)
    assert registry.get(made.id) == made
    registry.close()


def test_database_of_a_later_release_is_left_alone(url: str) -> None:
    sql.open(url).close()
    opened = database.Database(url)
    with opened.transaction() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(exceptions.HostNotReady, match="9999"):
        sql.open(url)
    assert schema.version(opened) == "9999"
    opened.close()


def test_many_daemons_may_be_the_first_at_once(url: str) -> None:
    program = (
        "import sys\nfrom container_stack.volumes import model, sql\n"
        "registry = sql.open(sys.argv[1])\n"
        "registry.put_node(model.Node(id=sys.argv[2]))\nregistry.close()\n"
    )
    daemons = [
        subprocess.Popen([sys.executable, "-c", program, url, str(number)], stderr=subprocess.PIPE)
        for number in range(6)
    ]
    said = [daemon.communicate(timeout=180)[1] for daemon in daemons]
    assert [daemon.returncode for daemon in daemons] == [0] * 6, said
    registry = sql.open(url)
    assert [node.id for node in registry.nodes()] == list("012345")
    registry.close()


def test_what_a_later_release_says_of_a_volume_is_no_trouble(url: str) -> None:
    registry = sql.open(url)
    made = volume(spec=model.Spec(size=7))
    registry.add(made)
    opened = database.Database(url)
    with opened.transaction() as connection:
        later = {"spec": '{"size":8,"colour":"red"}'}
        connection.execute(sa.text("UPDATE volumes SET spec = :spec"), later)
    assert registry.get(made.id).spec == model.Spec(size=8)
    opened.close()
    registry.close()


# Servers in trouble -------------------------------------------------------------------------------


def _refused_in_time(registry: sql.SQLRegistry) -> str:
    start = time.monotonic()
    for ask in (
        lambda: registry.list("loop"),
        lambda: registry.add(volume("another")),
        lambda: registry.get(volume().id),
    ):
        with pytest.raises(exceptions.ServiceUnavailable) as caught:
            ask()
    assert time.monotonic() - start < BOUND
    return str(caught.value)


def test_frozen_server_is_given_up_in_time_and_used_again(server: sql_servers.Server) -> None:
    url = server.database()
    registry = sql.open(url)
    made = volume()
    registry.add(made)
    with contextlib.ExitStack() as undo:
        undo.callback(server.thaw)
        server.freeze()
        said = _refused_in_time(registry)
        start = time.monotonic()
        with pytest.raises(exceptions.ServiceUnavailable):
            sql.open(url)
        assert time.monotonic() - start < BOUND
    assert "cstest-secret" not in said
    assert registry.get(made.id) == made
    registry.add(volume("after"))
    registry.close()


def test_events_survive_that_the_server_is_gone(
    server: sql_servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "LATER", 0.5)
    registry = sql.open(server.database())
    with contextlib.ExitStack() as undo:
        undo.callback(server.start)
        server.kill()
        for number in range(30):
            registry.add_event("noted", text=str(number))
            time.sleep(0.02)
        with pytest.raises(exceptions.ServiceUnavailable):
            registry.events()
    time.sleep(1)
    assert [event.text for event in registry.events()] == [str(n) for n in range(30)][::-1]
    registry.close()


def test_server_that_froze_in_the_middle_is_given_up_in_time(server: sql_servers.Server) -> None:
    registry = sql.open(server.database())
    made = volume()
    registry.add(made)
    start = time.monotonic()

    def work(connection: sa.Connection) -> None:
        connection.execute(sa.select(tables.VOLUMES))
        server.freeze()
        connection.execute(sa.delete(tables.VOLUMES))

    with contextlib.ExitStack() as undo:
        undo.callback(server.thaw)
        with pytest.raises(exceptions.ServiceUnavailable):
            registry._database.write(work)
        assert time.monotonic() - start < BOUND
    assert isinstance(registry.list("loop"), list)
    registry.close()


def test_killed_server_is_told_of_at_once_and_what_was_acknowledged_is_kept(
    server: sql_servers.Server,
) -> None:
    registry = sql.open(server.database())
    acknowledged: list[str] = []
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            made = volume(f"v{time.monotonic_ns()}")
            with contextlib.suppress(exceptions.ServiceUnavailable):
                registry.add(made)
                acknowledged.append(made.id)

    writers = [threading.Thread(target=write) for _ in range(3)]
    with contextlib.ExitStack() as undo:
        for writer in writers:
            writer.start()
            undo.callback(writer.join)
        undo.callback(stop.set)
        undo.callback(server.start)
        while len(acknowledged) < 30:
            time.sleep(0.02)
        server.kill()
        said = _refused_in_time(registry)
    assert "cstest-secret" not in said
    assert set(acknowledged) <= {each.id for each in registry.list("loop")}
    registry.close()


def test_deadlock_is_tried_again(server: sql_servers.Server) -> None:
    registry = sql.open(server.database())
    one, two = volume("one"), volume("two")
    registry.add(one)
    registry.add(two)
    both, tries = threading.Barrier(2), []

    def swap(first: str, second: str) -> None:
        def work(connection: sa.Connection) -> None:
            tries.append(first)
            update = sa.update(tables.VOLUMES).values(used=tables.VOLUMES.c.used + 1)
            connection.execute(update.where(tables.VOLUMES.c.id == first))
            with contextlib.suppress(threading.BrokenBarrierError):
                both.wait(10)
            both.abort()
            connection.execute(update.where(tables.VOLUMES.c.id == second))

        registry._database.write(work)

    other = threading.Thread(target=swap, args=(two.id, one.id))
    other.start()
    swap(one.id, two.id)
    other.join()
    assert len(tries) > 2
    assert [each.usage for each in registry.list("loop")] == [2, 2]
    registry.close()


def test_server_that_refuses_us_is_named_without_the_password(server: sql_servers.Server) -> None:
    url = server.database().replace("cstest-secret", "wrong-secret")
    nobodys, nowhere = url.replace(":wrong-secret", ""), server.url("cstest-none")
    for each, said in ((url, "refuses us"), (nobodys, "no password"), (nowhere, "make the data")):
        for wait in (True, False):
            with pytest.raises(exceptions.InvalidRequest, match=said) as caught:
                sql.open(each, wait=wait)
            assert "-secret" not in str(caught.value)


def test_server_that_comes_later_is_used_then(server: sql_servers.Server) -> None:
    url = server.database()
    with contextlib.ExitStack() as undo:
        undo.callback(server.start)
        server.kill()
        start = time.monotonic()
        registry = sql.open(url, wait=False)
        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            said = [*threads.map(lambda _: _refused_in_time(registry), range(8))]
        assert time.monotonic() - start < BOUND
        registry.add_event("noted")
    assert "cstest-secret" not in "".join(said)
    made = volume()
    assert soon(lambda: _added(registry, made))
    assert [event.kind for event in registry.events()] == ["noted"]
    registry.close()


def _added(registry: sql.SQLRegistry, made: model.Volume) -> bool:
    with contextlib.suppress(exceptions.ServiceUnavailable):
        registry.add(made)
        return True
    return False


def test_server_that_comes_later_with_newer_tables_is_left_alone(
    server: sql_servers.Server,
) -> None:
    url = server.database()
    sql.open(url).close()
    opened = database.Database(url)
    with opened.transaction() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    opened.close()
    with contextlib.ExitStack() as undo:
        undo.callback(server.thaw)
        server.freeze()
        registry = sql.open(url, wait=False)
    assert soon(lambda: "9999" in _refused_in_time(registry))
    registry.close()


# SQLite in trouble --------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "osd.sqlite"


def test_file_is_for_its_owner_only(path: pathlib.Path) -> None:
    registry = sql.open(f"sqlite:///{path}")
    registry.add(volume())
    modes = {each.name: each.stat().st_mode & 0o777 for each in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}, modes
    registry.close()


def test_locked_file_can_be_read_and_is_waited_for_within_bounds(path: pathlib.Path) -> None:
    registry = sql.open(f"sqlite:///{path}")
    made = volume()
    registry.add(made)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        assert registry.get(made.id) == made
        start = time.monotonic()
        with pytest.raises(exceptions.ServiceUnavailable, match="locked"):
            registry.update(made.id, usage=1)
        assert 1 < time.monotonic() - start < BOUND
        holder.execute("COMMIT")
    assert registry.update(made.id, usage=2).usage == 2
    registry.close()


def test_full_disk_is_told_and_nothing_is_half_written(path: pathlib.Path) -> None:
    registry = sql.open(f"sqlite:///{path}")
    kept = volume("kept")
    registry.add(kept)
    pages = sa.text("SELECT page_count FROM pragma_page_count()")
    count = registry._database.read(pages)[0][0]
    registry.close()  # it connects anew when it is asked again
    sa.event.listen(
        registry._database.engine,
        "connect",
        lambda connection, *_: connection.execute(f"PRAGMA max_page_count = {count}"),
    )

    def fill() -> None:
        for number in range(2000):
            registry.add(volume(f"v{number}", labels={"a": "b" * 200}))

    with pytest.raises(exceptions.ServiceUnavailable, match="full"):
        fill()
    listed = registry.list("loop")
    assert kept in listed
    registry.remove(listed[-1].id)
    assert len(registry.list("loop")) == len(listed) - 1
    registry.close()


def test_what_is_no_database_is_refused_with_words(path: pathlib.Path) -> None:
    path.write_text("This is a letter, and longer than a header.\n" * 99)
    with pytest.raises(exceptions.ServiceUnavailable, match="not a database"):
        sql.open(f"sqlite:///{path}")
    with pytest.raises(exceptions.HostNotReady, match="No such file"):
        sql.open(f"sqlite:///{path.parent}/absent/osd.sqlite")


@pytest.mark.parametrize(
    "url",
    [
        *("", "osd.sqlite", "sqlite://", "sqlite:///:memory:", "oracle://me:cstest-secret@h/d"),
        *(
            "mysql://me:cstest-secret@host",
            "postgresql://me:cstest-secret@host:port/d",
            "mysql+x://h/d",
        ),
        "http://me:cstest-secret@host/d",
    ],
)
def test_url_that_means_no_database_is_refused(url: str) -> None:
    with pytest.raises(exceptions.InvalidRequest) as caught:
        sql.open(url)
    assert "cstest-secret" not in str(caught.value)


def test_kill_of_a_writer_loses_nothing_that_was_acknowledged(path: pathlib.Path) -> None:
    program = (
        "import sys\nfrom container_stack.testing.registry_world import volume\n"
        "from container_stack.volumes import sql\n"
        "registry = sql.open(sys.argv[1])\n"
        "for number in range(10**6):\n"
        "    made = volume(f'v{number}')\n"
        "    registry.add(made)\n"
        "    print(made.id, flush=True)\n"
    )
    for _ in range(3):
        url = f"sqlite:///{path}"
        with subprocess.Popen(
            [sys.executable, "-c", program, url], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            said = [writer.stdout.readline() for _ in range(40)]
            writer.kill()
            said += writer.stdout.readlines()
        registry = sql.open(url)
        there = {each.id for each in registry.list("loop")}
        # The last line may have been cut off.
        assert {line.strip() for line in said if line.endswith("\n")} <= there
        for each in there:
            registry.remove(each)
        registry.close()


def test_daylight_saving_of_this_host_changes_nothing(path: pathlib.Path) -> None:
    program = (
        "import sys\nfrom container_stack.testing.registry_world import volume\n"
        "from container_stack.volumes import model, sql\n"
        "registry = sql.open(sys.argv[1])\n"
        "print(registry.put_node(model.Node(id='n')).timestamp.timestamp())\n"
        "registry.add_event('x')\nprint(registry.events()[0].at.timestamp())\n"
        "registry.add(volume())\nprint(registry.list('loop')[0].created_at.timestamp())\n"
    )
    now = datetime.datetime.now(datetime.UTC).timestamp()
    said = subprocess.run(
        [sys.executable, "-c", program, f"sqlite:///{path}"],
        env={**os.environ, "TZ": "Asia/Kathmandu"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert abs(float(said[0]) - now) < 600
    assert abs(float(said[1]) - now) < 600
    assert float(said[2]) == volume().created_at.timestamp()
