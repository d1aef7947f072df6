# SPDX-License-Identifier: Apache-2.0
import argparse
import inspect
import io
import json
from importlib import metadata

import pytest

from container_stack import exceptions
from container_stack.cmd import main
from container_stack.cmd.storlet import bars, deployments, images, options, verify
from container_stack.storlets import settings
from container_stack.storlets.deployment import deployer, events, planning, versions
from container_stack.storlets.image import archive
from container_stack.storlets.verification import report
from container_stack.storlets.workbench import dockerfile_rules

CREDENTIALS = ("OS_AUTH_URL", "ST_AUTH", "ST_USER", "ST_KEY")
IMAGE = f"sha256:{'7' * 64}"


COMMANDS = {
    point.name: point
    for point in metadata.entry_points(group="container_stack.cli")
    if point.name.startswith("storlet_")
}
#: One of these stands in each command's help.
ROLES = ("(account manager)", "(storlet manager)", "(both roles)", "(who may change the account)")


def parse(command, *words):
    """Return what a command of the application makes of its words."""
    application = main.ContainerStack()
    found, name, _rest = application.command_manager.find_command(["storlet", command])
    return found(application, None, name).get_parser(name).parse_args(words)


def run(*words):
    return main.main(["storlet", *words])


def version(number, **values):
    verified = report.Report("AUTH_a", IMAGE, 1, 2.0, 3.0, [])
    return versions.Version(number, IMAGE, "ops:me", 4.0, (), verified, **values)


def plan(**values):
    facts = {
        "account": "AUTH_a",
        "image_id": IMAGE,
        "nodes": (planning.NodePlan("n1", None, 1, 300), planning.NodePlan("n2", None, 0, 500)),
        "right": 1,
        "previous": None,
        "differing": {},
        "known": False,
        "down": {},
        "unready": {},
        "policy": settings.Rollout(),
    }
    return planning.Plan(**{**facts, **values})


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_whom_it_is_for(name):
    first = inspect.getdoc(COMMANDS[name].load()).splitlines()[0]
    assert any(role in first for role in ROLES), first


def test_passwords_are_no_options():
    parser = argparse.ArgumentParser()
    options.add_user(parser)
    text = parser.format_help().lower()
    assert not [word for word in ("--os-password", "--key", "secret") if word in text]


def test_options_count_more_than_the_environment(monkeypatch):
    monkeypatch.setenv("ST_USER", "one:me")
    monkeypatch.setenv("ST_KEY", "oyster")
    args = parse("list", "--user", "two:me", "--os-region-name", "north")
    found = options.environment(args)
    assert (found["ST_USER"], found["ST_KEY"], found["OS_REGION_NAME"]) == (
        "two:me",
        "oyster",
        "north",
    )


def test_who_gives_no_credentials_is_told_which_in_one_line(monkeypatch, capsys):
    for name in CREDENTIALS:
        monkeypatch.delenv(name, raising=False)
    code = run("list")
    out, err = capsys.readouterr()
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert "OS_AUTH_URL" in err
    assert "ST_AUTH" in err


def test_a_configuration_file_is_named_by_option_or_variable(tmp_path, monkeypatch):
    files = {}
    for name in ("option", "variable"):
        files[name] = tmp_path / f"{name}.conf"
        files[name].write_text(f"[storlets]\nbase_image = {name}:1\n")
    monkeypatch.setenv(options.CONFIG_VARIABLE, str(files["variable"]))
    assert options.settings(parse("list")).base_image == "variable:1"
    args = parse("list", "--config-file", str(files["option"]))
    assert options.settings(args).base_image == "option:1"


def test_a_configuration_file_that_is_not_there_is_an_error_in_one_line(tmp_path, capsys):
    code = run("node", "list", "--config-file", str(tmp_path / "missing.conf"))
    assert code == 1
    assert "missing.conf" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["deploy", "rollback", "resume", "status", "history"])
def test_whose_nodes_change_must_be_said(command):
    words = ["painter.tar"] if command == "deploy" else []
    with pytest.raises(SystemExit):
        parse(command, *words)


@pytest.mark.parametrize("command", ["enable", "disable", "publish", "upload", "deploy"])
def test_what_changes_something_can_be_tried(command):
    words = {"enable": ["--manager=p:u"], "publish": ["--account=AUTH_a"], "upload": ["x.tar"]}
    words["deploy"] = ["x.tar", "--account=AUTH_a"]
    assert parse(command, *words.get(command, []), "--dry-run").dry_run


@pytest.mark.parametrize("words", [[], ["a.tar", "--object=b.tar"]])
def test_exactly_one_image_is_verified(words):
    with pytest.raises(SystemExit):
        parse("verify", *words)


def test_a_storlet_needs_its_class_and_an_input():
    args = parse("verify", "a.tar", "--storlet=s.py", "--main=s.S")
    with pytest.raises(exceptions.InvalidRequest, match="--input"):
        verify.make_trial(args)


def test_a_storlet_arrives_with_all_that_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("s.py", "in", "out", "lib.py"):
        (tmp_path / name).write_text(name)
    words = ["--storlet=s.py", "--main=s.S", "--input=in", "--expect=out", "--dependency=lib.py"]
    pairs = ["--parameter=width=7", "--metadata=a=b=c", "--expect-metadata=color=red"]
    made = verify.make_trial(parse("verify", "a.tar", "--python-version=3.11", *words, *pairs))
    assert (made.file, made.main, made.input, made.output) == ("s.py", "s.S", "in", "out")
    assert (made.dependencies, made.version) == (("lib.py",), "3.11")
    assert (made.parameters, made.metadata) == ({"width": "7"}, {"a": "b=c"})
    assert made.output_metadata == {"color": "red"}


@pytest.mark.parametrize("text", ["width", "=7", ""])
def test_a_pair_has_a_name_and_a_value(text):
    with pytest.raises(argparse.ArgumentTypeError):
        options.pair(text)


def test_findings_of_a_build_are_lines_for_people_and_objects_for_programs():
    found = images.Findings(
        [dockerfile_rules.failed(3, "CMD is set", "remove it")],
    )
    assert found.human_readable() == "FAILED: line 3: CMD is set; remove it"
    assert json.loads(json.dumps(found.machine_readable())) == [
        {"line": 3, "state": "FAILED", "detail": "CMD is set", "cure": "remove it"}
    ]


def test_what_a_plan_would_do_and_what_stands_against_it_is_one_row():
    done = deployer.Result(False, version(4), plan(down={"n3": "It is down."}))
    row = dict(zip(*deployments.result(done), strict=True))
    assert (row["Version"], row["Image"], row["Changed"]) == (4, IMAGE, False)
    assert (row["Nodes"], row["Bytes"]) == (2, 800)
    assert row["Unfinished"] == ["n3: It is down."]


def test_before_the_first_deployment_there_is_nothing_to_tell():
    row = dict(zip(*deployments.result(deployer.Result(False)), strict=True))
    assert (row["Version"], row["Image"], row["Nodes"], row["Unfinished"]) == (None, None, 0, [])


def test_events_are_told_as_bytes_nodes_and_errors():
    stream = io.StringIO()
    with bars.Bars(stream) as progress:
        watch = deployments.watcher(progress)
        watch(events.Event(events.Step.STAGE, nodes=2, sent=700, size=700))
        watch(events.Event(events.Step.STAGE, node="n1", done=1, nodes=2, error="It is full."))
        watch(events.Event(events.Step.WAVE, node="n2", done=2, nodes=2, wave=2, waves=3))
    lines = stream.getvalue().splitlines()
    assert [line.partition(":")[0] for line in lines] == ["Sending to nodes", "n1", "Wave 2 of 3"]
    assert lines[1] == "n1: It is full."


def test_bounds_have_one_source():
    assert settings.Settings().bounds == archive.Bounds()
