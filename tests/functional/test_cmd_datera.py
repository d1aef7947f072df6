# SPDX-License-Identifier: Apache-2.0
"""``container-stack datera`` and a simulated array, as an operator would type it."""

import io
import json
import socket
import time

import pytest

from container_stack.cmd import main
from container_stack.host import attach_file
from container_stack.imagestore import edf, journal, service
from container_stack.testing.edf import simulator

CONF = """\
[DEFAULT]
enabled_backends = images:datera
[glance_store]
default_backend = images
[images]
datera_san_ip = {address}
datera_san_port = {port}
datera_san_login = {login}
datera_san_password = {password}
datera_ca_file = {ca_file}
datera_tenant_id = images
datera_attach = file
datera_simulator_dir = {directory}
datera_state_dir = {state_dir}
datera_retry_attempts = 1
datera_retry_interval = 0.02
"""
FINISHED, DEAD, LIVE, FOREIGN, OLD = "finished", "dead", "live", "foreign", "old"


class World:
    """An array, a Glance host's configuration file, and the program."""

    def __init__(self, array, directory, capsys):
        self.array = array
        self.capsys = capsys
        self.state_dir = directory / "state"
        self.state_dir.mkdir(mode=0o700)
        self.conf = directory / "glance-api.conf"
        self.write()
        self.endpoint = edf.Endpoint(**array.endpoint_kwargs, tenant="images")
        self.client = edf.Client(self.endpoint)

    def write(self, **values):
        facts = {
            **self.array.endpoint_kwargs,
            "directory": self.array.directory,
            "state_dir": self.state_dir,
        }
        self.conf.write_text(CONF.format(**{**facts, **values}), encoding="utf-8")

    def run(self, *words, code=0):
        found = main.main(["datera", *words, "--config-file", str(self.conf), "-f", "json"])
        out, err = self.capsys.readouterr()
        assert found == code, err
        return json.loads(out)

    def check(self, code=0):
        return {each["Subject"]: each for each in self.run("check", code=code)}

    @property
    def journal(self):
        tenant = self.endpoint.tenant_path
        return journal.Journal(str(self.state_dir), self.endpoint.url, tenant)

    def unfinished(self, image_id, host="", age=0.0):
        """Make what an upload has made before it writes; return its UUID."""
        begun = {"begun": str(int(time.time() - age))} if age else {}
        made = self.client.create_app_instance(f"OS-IMAGE-{image_id}", size_gib=1)
        self.client.set_metadata(made.name, {"type": "image", "host": host, **begun})
        return made.uuid

    def names(self):
        return sorted(each.name for each in self.client.app_instances())


@pytest.fixture
def world(tmp_path, capsys):
    with simulator.Simulator(tmp_path / "array", target="file", password="swordfish-7") as array:
        yield World(array, tmp_path, capsys)


@pytest.fixture
def orphans(world):
    """One image of each kind, of which one is being uploaded."""
    world.client.ensure_tenant()
    here = socket.gethostname()
    store = service.ImageStore(
        world.client, attach_file.FileAttacher.open(world.array.options), world.journal
    )
    store.add(FINISHED, io.BytesIO(b"x" * 1000))
    store.clone(FINISHED, "copy")
    with world.journal.take(DEAD) as entry:
        entry.note(world.unfinished(DEAD, here))
    world.unfinished(FOREIGN, "other.example.org", age=1800)
    world.unfinished(OLD, "other.example.org", age=2 * 86400)
    with world.journal.take(LIVE) as entry:
        entry.note(world.unfinished(LIVE, here))
        yield


def test_a_ready_store_passes_and_nothing_is_changed(world):
    world.client.ensure_tenant()
    found = world.check()
    assert {each["State"] for each in found.values()} == {"ok"}
    assert found["array 127.0.0.1"]["Detail"] == "REST v2.2; knows admin"
    assert "GiB free" in found["room on the array"]["Detail"]
    assert "software 2.2.0" in found["tenant /root/images"]["Detail"]
    assert "initiator iqn." in found["attaching by file"]["Detail"]
    assert world.names() == []


@pytest.mark.parametrize(
    ("values", "subject", "fix"),
    [
        ({"password": "xyzzy-plugh"}, "array 127.0.0.1", "datera_san_password"),
        ({"ca_file": ""}, "array 127.0.0.1", "datera_ca_file"),
        ({"port": 1}, "array 127.0.0.1", "datera_san_port"),
        ({"state_dir": "/nonexistent/state"}, "state directory /nonexistent/state", "install -d"),
        ({"directory": "/nonexistent"}, "attaching by file", ""),
        ({"login": ""}, "configuration", "glance-api.conf"),
    ],
)
def test_what_is_wrong_is_said_with_its_cure(world, values, subject, fix):
    world.write(**values)
    found = world.check(code=1)
    assert found[subject]["State"] == "failure"
    assert found[subject]["Detail"]
    assert fix in found[subject]["Fix"]
    assert "xyzzy-plugh" not in json.dumps(found)


def test_a_tenant_that_is_still_to_be_made_is_no_failure(world):
    found = world.check()
    assert found["tenant /root/images"]["State"] == "warning"


def test_images_are_listed_with_size_state_and_clones(world, orphans):
    found = {each["ID"]: each for each in world.run("image", "list")}
    assert found[FINISHED] == {
        "ID": FINISHED, "Size": 1000, "State": "ready", "Clones": "copy"
    }  # fmt: skip
    assert {found[each]["State"] for each in (DEAD, LIVE, FOREIGN, OLD)} == {"unfinished"}


def test_orphans_are_certain_by_the_journal_or_else_possible(world, orphans):
    found = {each["ID"]: each for each in world.run("orphan", "list")}
    assert set(found) == {DEAD, FOREIGN, OLD}
    assert {key: each["Orphan"] for key, each in found.items()} == {
        DEAD: "certain", FOREIGN: "possible", OLD: "possible"
    }  # fmt: skip
    assert (found[FOREIGN]["Hours"], found[OLD]["Hours"]) == (0.5, 48.0)
    assert found[OLD]["Host"] == "other.example.org"


def test_a_dry_run_only_tells(world, orphans):
    before = world.names()
    found = {each["ID"]: each["Result"] for each in world.run("orphan", "reap", "--dry-run")}
    assert found == {DEAD: "would be removed", FOREIGN: "kept", OLD: "kept"}
    assert world.names() == before


def test_only_what_is_certain_is_reaped_unless_an_age_is_given(world, orphans):
    found = {each["ID"]: each["Result"] for each in world.run("orphan", "reap")}
    assert found == {DEAD: "removed", FOREIGN: "kept", OLD: "kept"}
    found = {
        each["ID"]: each["Result"] for each in world.run("orphan", "reap", "--older-than", "24")
    }
    assert found == {FOREIGN: "kept", OLD: "removed"}
    left = [name for name in world.names() if name.startswith("OS-IMAGE-")]
    assert left == ["OS-IMAGE-finished", "OS-IMAGE-foreign", "OS-IMAGE-live"]


def test_looking_for_orphans_leaves_no_records(world, orphans):
    world.run("orphan", "list")
    assert sorted(path.name for path in world.state_dir.glob("*/uploads/*")) == [DEAD, LIVE]


@pytest.mark.parametrize("hours", ["-1", "inf", "nan", "soon"])
def test_an_age_must_be_one(world, hours):
    with pytest.raises(SystemExit):
        world.run("orphan", "reap", f"--older-than={hours}")
