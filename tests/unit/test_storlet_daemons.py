# SPDX-License-Identifier: Apache-2.0
"""Which storlets run in a sandbox, told from processes that may call themselves anything."""

import pytest

from container_stack.storlets.node import daemons, helper, probe

PYTHON = "/usr/bin/python3 -m storlets.agent.daemon {0} /mnt/channels/{0} DEBUG 5 acc_acc"
JAVA = "/usr/bin/java org.openstack.storlet.daemon.SDaemon {0} /mnt/channels/{0} WARN 7 acc_acc"
CLASSES = (
    "CLASSPATH=/opt/x:/usr/local/lib/storlets/java/*:/usr/local/lib/storlets/java/:"
    "/var/lib/storlets/org.x.Copy/copy-1.0.jar:/var/lib/storlets/org.x.Copy/dep.jar"
)


def test_python_storlets_are_found_with_what_they_were_started_with() -> None:
    found = daemons.found(
        [
            "10 9 python3 -m storlets.agent.daemon_factory /mnt/channels/factory_pipe DEBUG a",
            "30 10 " + PYTHON.format("one.One") + " PYTHONPATH=/usr/local/lib/storlets/python:/x",
            "31 10 logger",
            "20 10 " + PYTHON.replace("python3", "python3.11").format("two.Two"),
        ]
    )
    assert found == {
        "one.One": daemons.Daemon("one.One", 30, "python", "", "DEBUG", 5),
        "two.Two": daemons.Daemon("two.Two", 20, "python", "", "DEBUG", 5, "3.11"),
    }
    assert found["two.Two"].order() == {
        "daemon_language": "python",
        "storlet_path": "",
        "storlet_name": "two.Two",
        "uds_path": "/mnt/channels/two.Two",
        "log_level": "DEBUG",
        "pool_size": 5,
        "daemon_language_version": "3.11",
    }


def test_java_storlets_are_found_with_their_class_path() -> None:
    line = JAVA.format("org.x.Copy")
    found = daemons.found([f"5 1 {line} {CLASSES} LD_LIBRARY_PATH=/usr", f"6 1 {line} HOME=/"])
    path = "/var/lib/storlets/org.x.Copy/copy-1.0.jar:/var/lib/storlets/org.x.Copy/dep.jar"
    assert found == {"org.x.Copy": daemons.Daemon("org.x.Copy", 5, "java", path, "WARN", 7)}
    assert "daemon_language_version" not in found["org.x.Copy"].order()


def test_children_that_do_the_work_are_not_taken_for_the_daemon() -> None:
    line = PYTHON.format("one.One")
    found = daemons.found([f"41 40 {line}", f"42 40 {line}", f"40 3 {line}"])
    assert found["one.One"].pid == 40


@pytest.mark.parametrize(
    "line",
    [
        "",
        "7",
        "x 1 " + PYTHON.format("one.One"),
        "7 1 " + PYTHON.format(probe.new_name()),
        "7 1 " + PYTHON.format("one.One").replace("/mnt/channels", "/mnt/other"),
        "7 1 " + PYTHON.format("../../x"),
        "7 1 " + PYTHON.format("a" * 201),
        "7 1 sh -c " + PYTHON.format("one.One"),
        "7 1 " + PYTHON.format("one.One").replace("5", "99999"),
        "7 1 " + JAVA.format("one.One") + " CLASSPATH=/etc",
    ],
)
def test_what_is_no_storlet_is_left_out(line: str) -> None:
    assert daemons.found([line]) == {}


def test_storlet_that_an_account_calls_like_the_probe_is_a_storlet() -> None:
    assert set(daemons.found(["7 1 " + PYTHON.format(probe.MAIN)])) == {probe.MAIN}


def test_no_more_than_some_are_started_in_advance() -> None:
    lines = [f"{n + 2} 1 {PYTHON.format(f'm{n}.M')}" for n in range(1000)]
    assert len(daemons.found(lines)) == daemons.MOST


def test_program_of_the_helper_needs_nothing_of_ours() -> None:
    text = helper.program()
    compile(text, "agent", "exec")
    assert len(text) < 100_000, "a command line has 128 KiB"


def test_directories_of_the_helper_are_no_accounts() -> None:
    assert helper.beside("acc").startswith(".")
