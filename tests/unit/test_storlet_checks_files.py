# SPDX-License-Identifier: Apache-2.0
"""Checks 5 to 8 on the files of tiny images."""

import io
from collections.abc import Mapping
from typing import Any

import pytest

from container_stack.storlets.image import archive, tree
from container_stack.storlets.verification import base, checks, checks_files, native, report
from container_stack.testing import image_archives as tiny

PASSED, FAILED, WARNING = report.State.PASSED, report.State.FAILED, report.State.WARNING
HOST = native.Native(glibc=(2, 36), needed=(2, 14))
LIBC = b"\0GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\n\0"
FILES: Mapping[str, tiny.Content] = {
    "bin": tiny.symlink("usr/bin"),
    "lib": tiny.symlink("usr/lib"),
    "usr/bin/python3.11": tiny.program(b"python"),
    "usr/bin/python3": tiny.symlink("python3.11"),
    "usr/bin/logger": tiny.program(b"logger"),
    "usr/lib/x86_64-linux-gnu/libc.so.6": LIBC,
}
ENV = ("PATH=/usr/local/bin:/usr/bin",)
BASE = base.Base("sha256:0", ("sha256:1",), {"Env": list(ENV)}, "amd64")


def files(*layers: Mapping[str, tiny.Content]) -> tree.Tree:
    """Return what these layers make over the base's."""
    data = tiny.build([FILES, *layers])
    return archive.ImageArchive.open(io.BytesIO(data), len(data)).tree()


def config(*env: str, **more: Any) -> dict[str, Any]:
    return {"Env": [*ENV, *env], **more}


def environment(settings: Mapping[str, Any], *layers: Mapping[str, tiny.Content]) -> report.Finding:
    return checks_files.environment(settings, BASE, files(*layers))


def programs(
    *layers: Mapping[str, tiny.Content],
    host: native.Native = HOST,
    python: str | None = None,
    java: bool = False,
) -> report.Finding:
    return checks_files.programs(files(*layers), host, checks_files.Wanted(python, java), 1)


def test_base_passes() -> None:
    made = files()
    assert environment(config()) == checks.passed(5, "python3 is in PATH.")
    assert checks_files.modules(config(), made).state is PASSED
    assert checks_files.logger(config(), made) == checks.passed(7, "It is /usr/bin/logger.")
    assert programs() == checks.passed(8, "glibc 2.36, and all interpreters are in place.")


@pytest.mark.parametrize("name", ["PYTHONHOME", "PYTHONPLATLIBDIR"])
def test_variable_that_takes_pythons_library_away_is_refused(name: str) -> None:
    found = environment(config(f"{name}=/opt"))
    assert found.state is FAILED
    assert name in found.detail
    assert name in found.cure


def test_empty_pythonhome_does_no_harm() -> None:
    assert environment(config("PYTHONHOME=")).state is not FAILED


@pytest.mark.parametrize("path", ["/opt", "", ".", "usr/bin", "/usr/bin/python3", "/etc:/nowhere"])
def test_path_without_a_python_is_refused(path: str) -> None:
    assert environment(config(f"PATH={path}")).state is FAILED


def test_image_without_path_gets_the_engines() -> None:
    assert environment({"Env": []}).state is PASSED
    assert environment({"Env": None}).state is PASSED
    assert environment({}).state is PASSED


def test_last_of_two_paths_counts() -> None:
    assert environment(config("PATH=/opt", "PATH=/usr/bin")).state is PASSED
    assert environment(config("PATH=/usr/bin", "PATH=/opt")).state is FAILED


def test_variables_that_storlets_never_see_are_told() -> None:
    found = environment(config("LD_LIBRARY_PATH=/opt/lib", "PYTHONPATH=/opt"))
    assert found.state is WARNING
    assert "LD_LIBRARY_PATH, PYTHONPATH" in found.detail


@pytest.mark.parametrize(
    "content",
    [
        tiny.program(b"python", 0o644),
        tiny.symlink("python4"),
        tiny.symlink("python3"),
        tiny.symlink("../../../../../etc/python"),
        tiny.special(b"6"),
    ],
)
def test_python_that_nobody_can_run_is_none(content: tiny.Content) -> None:
    layer = {"usr/bin/python3": content}
    assert environment(config(), layer).state is FAILED
    assert programs(layer).state is FAILED


def test_python_below_a_link_is_found() -> None:
    assert environment(config("PATH=/bin")).state is PASSED


@pytest.mark.parametrize(
    ("workdir", "path"),
    [
        ("", "json.py"),
        ("/", "json.py"),
        ("/", "json/__init__.py"),
        ("/", "_json.pyc"),
        ("/", "socket.cpython-311-x86_64-linux-gnu.so"),
        ("/", "storlets/__init__.py"),
        ("/opt/app", "opt/app/logging.py"),
        ("opt/app", "opt/app/logging.py"),
        ("/opt/../opt/app/", "opt/app/logging.py"),
    ],
)
def test_module_that_hides_pythons_own_is_refused(workdir: str, path: str) -> None:
    made = files({path: b""})
    found = checks_files.modules(config(WorkingDir=workdir), made)
    assert found.state is FAILED
    assert path.rpartition("/")[2] in found.detail


def test_modules_in_the_way_are_found_through_links() -> None:
    made = files({"srv/other.txt": b"", "srv/app": tiny.symlink("/opt"), "opt/os.py": b""})
    assert checks_files.modules(config(WorkingDir="/srv/app"), made).state is FAILED
    made = files({"json.py": tiny.symlink("etc/a"), "etc/a": b""})
    assert checks_files.modules(config(), made).state is FAILED


def test_files_that_are_no_modules_are_in_nobodys_way() -> None:
    made = files({"json/data": b"", "json.txt": b"", "opt/json.py": b"", "sys.py": b""})
    assert checks_files.modules(config(), made).state is PASSED


@pytest.mark.parametrize(
    "workdir", ["/mnt/channels", "/var/lib/storlets/x", "/opt/../mnt/channels", "/dev/log"]
)
def test_working_directory_in_the_gateways_mounts_is_refused(workdir: str) -> None:
    assert checks_files.modules(config(WorkingDir=workdir), files()).state is FAILED


def test_missing_logger_is_refused() -> None:
    for layer in ({"usr/bin/.wh.logger": b""}, {"usr/bin/logger": b"no program"}):
        found = checks_files.logger(config(), files(layer))
        assert found.state is FAILED
        assert "bsdutils" in found.cure
    assert checks_files.logger(config("PATH=/usr/local/bin"), files()).state is FAILED


def test_python_must_be_where_the_agent_looks() -> None:
    elsewhere = {"usr/bin/.wh.python3": b"", "usr/local/bin/python3": tiny.program(b"")}
    assert environment(config(), elsewhere).state is PASSED
    found = programs(elsewhere)
    assert found.state is FAILED
    assert found.detail.startswith("/usr/bin/python3 ")


@pytest.mark.parametrize(
    ("version", "state"), [(None, PASSED), ("3", PASSED), ("3.11", PASSED), ("3.9", FAILED)]
)
def test_version_that_a_storlet_asks_for_is_needed(
    version: str | None, state: report.State
) -> None:
    assert programs(python=version).state is state


def test_java_is_needed_only_where_it_is_wanted() -> None:
    found = programs(java=True)
    assert (found.state, found.detail[:13]) == (FAILED, "/usr/bin/java")
    java = {
        "etc/alternatives/java": tiny.symlink("/usr/lib/jvm/bin/java"),
        "usr/bin/java": tiny.symlink("/etc/alternatives/java"),
        "usr/lib/jvm/bin/java": tiny.program(b"java"),
    }
    assert programs(java, java=True).state is PASSED


def test_image_without_glibc_is_refused() -> None:
    path = "usr/lib/x86_64-linux-gnu"
    for layer in (
        {f"{path}/.wh.libc.so.6": b""},
        {f"{path}/libc.so.6": b"musl libc"},
        {f"{path}/.wh.libc.so.6": b"", "usr/lib/ld-musl-x86_64.so.1": tiny.program(b"")},
    ):
        found = programs(layer)
        assert found.state is FAILED
        assert "musl" in found.cure


@pytest.mark.parametrize(
    ("needed", "own", "state"),
    [
        ((2, 14), (2, 36), PASSED),
        ((2, 14), (2, 9), PASSED),
        ((2, 14), None, PASSED),
        ((2, 36), (2, 41), WARNING),
        ((2, 37), (2, 41), FAILED),
        ((3, 0), (3, 0), FAILED),
    ],
)
def test_glibc_must_be_enough_for_the_nodes_library(
    needed: native.Version, own: native.Version | None, state: report.State
) -> None:
    assert programs(host=native.Native(own, needed)).state is state


def test_older_glibc_of_ubuntu_in_another_place_is_read() -> None:
    banner = b"GNU C Library (Ubuntu GLIBC 2.9-0ubuntu9) stable release version 2.9.\n"
    layer = {
        "usr/lib/x86_64-linux-gnu/.wh.libc.so.6": b"",
        "lib64": tiny.symlink("usr/lib64"),
        "usr/lib64/libc-2.9.so": bytes(2**16) + banner,
        "usr/lib64/libc.so.6": tiny.symlink("libc-2.9.so"),
    }
    found = programs(layer)
    assert found.state is FAILED
    assert "glibc 2.9;" in found.detail


def test_programs_with_anothers_rights_are_told_unless_the_base_has_them() -> None:
    found = programs({"opt/become": tiny.program(b"", 0o4755)})
    assert found.state is WARNING
    assert "/opt/become" in found.detail
    assert programs({"opt/shared/": tiny.special(b"5", mode=0o2775)}).state is PASSED
    data = tiny.build([{**FILES, "usr/bin/su": tiny.program(b"", 0o4755)}])
    own = archive.ImageArchive.open(io.BytesIO(data), len(data)).tree()
    assert checks_files.programs(own, HOST, checks_files.Wanted(), 1).state is PASSED


def test_what_an_image_says_is_told_without_what_a_terminal_obeys() -> None:
    found = environment(config(f"PATH=/\x1b[31m{'x' * 5000}"))
    assert "\x1b" not in found.detail
    assert len(found.detail) < 400
