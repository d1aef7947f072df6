# SPDX-License-Identifier: Apache-2.0
"""The command line: the original's forms, against our daemon and against the recorded original."""

import http.server
import json
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from . import osd_daemon

EXCHANGES = Path(__file__).with_name("osd_exchanges") / "seed-nfs.json"
A, B = "4f58ed9f-8f4c-4303-bdb8-e1a8d1e3f3d0", "4bd2cdf3-1630-4b8a-a8b1-731e11c6e3c1"
SNAPSHOT = "b90b5c83-e065-4a1d-81a2-141057fcaa27"
NOBODY = "00000000-0000-0000-0000-000000000000"
PATH = "/LAB/run/m1"
DOWN = f"Device {A} not mounted"

#: What was typed when the exchanges were recorded, in their order: words, exit code, and what is
#: printed where that isn't the answer itself.
TYPED: list[tuple[tuple[str, ...], int, str | None]] = [
    (("create", "vol1", "-l", "app=db,tier=gold", "-s", "100", "--fs", "nfs", "--cos", "5",
      "--si", "60"), 0, A),
    (("create", "vol2", "--fs", "nfs"), 0, B),
    (("enumerate",), 0, None),
    (("enumerate", "--name", "vol1"), 0, None),
    (("e", "-l", "app=db"), 0, None),
    (("enumerate", "--label", "nokey=x"), 0, None),
    (("enumerate", "-name", "nosuch"), 0, None),
    (("inspect", A), 0, None),
    (("i", A, B), 0, None),
    (("inspect", NOBODY), 1, "inspect: Volume does not exist."),
    (("stats", A), 1, "stats: Failed to get stats: Operation not supported"),
    (("alerts", A), 1, "alerts: Failed to get alerts: Operation not supported"),
    (("mount", A, "--path", PATH), 0, A),
    (("enumerate", "--name=vol1"), 0, None),
    (("snap", A, "--name", "snap1", "-l", "kind=nightly", "--readonly"), 0, SNAPSHOT),
    (("enumerate",), 0, None),
    (("enumerate", "--name", "snap1"), 0, None),
    (("unmount", A, "--path", PATH), 0, A),
    (("u", "-path", PATH, A), 1, f"unmount: {DOWN}"),
    (("unmount", "--path", PATH, A), 1, f"unmount: {DOWN}"),
    (("delete", SNAPSHOT), 0, SNAPSHOT),
    (("rm", A), 0, A),
    (("delete", A), 1, "delete: Key not found"),
    (("delete", B), 0, B),
    (("enumerate",), 0, None),
]  # fmt: skip


class Original(socketserver.ThreadingUnixStreamServer):
    """Answers as the original did, if it is asked what the original was asked."""

    def __init__(self, path: Path) -> None:
        self.exchanges: list[dict[str, Any]] = json.loads(EXCHANGES.read_text(encoding="utf-8"))
        self.differences: list[object] = []
        self.next = 0
        super().__init__(str(path), _Handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Original

    def _answer(self) -> None:
        wanted = self.server.exchanges[self.server.next]
        self.server.next += 1
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        got = {"method": self.command, "path": self.path, "body": json.loads(body or "null")}
        if got != {name: wanted[name] for name in got}:
            self.server.differences.append((got, wanted))
        answer = wanted["answer"]
        data = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
        self.send_response(wanted["status"])
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def address_string(self) -> str:
        return "unix"


def test_recorded_original_is_asked_what_its_own_client_asked(tmp_path: Path) -> None:
    (tmp_path / "driver").mkdir()
    with Original(tmp_path / "driver" / "nfs.sock") as original:
        threading.Thread(target=original.serve_forever, daemon=True).start()
        for words, code, said in TYPED:
            answer = original.exchanges[original.next]["answer"]
            done = subprocess.run(
                [osd_daemon.OSD, "--state-dir", str(tmp_path), "nfs", *words],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == code, (words, done)
            if said is None:
                assert done.stdout == json.dumps(answer, indent=1, ensure_ascii=False) + "\n"
            else:
                assert (done.stderr if code else done.stdout).strip() == said, words
        original.shutdown()
    assert original.differences == []


# Our daemon -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[osd_daemon.Daemon]:
    directory = tmp_path_factory.mktemp("daemon")
    with osd_daemon.daemon(directory, {"memory": None, "memory_block": None}) as made:
        yield made.start()


@pytest.fixture
def volume(daemon: osd_daemon.Daemon) -> Iterator[str]:
    made = daemon.run("memory", "create", "cask", "-s", "11", "-l", "wine=red")
    yield made
    daemon.cli("memory", "unmount", "cask")
    for each in daemon.json("memory", "snapEnumerate", "cask"):
        daemon.run("memory", "delete", each["ID"])
    daemon.run("memory", "delete", made)


def test_ids_are_printed(daemon: osd_daemon.Daemon, volume: str) -> None:
    assert daemon.cli(
        "memory", "mount", volume, "--path", f"{daemon.state_dir}/mounts/a"
    ).stdout == (f"{volume}\n")
    done = daemon.cli(
        "--json", "memory", "unmount", volume, "--path", f"{daemon.state_dir}/mounts/a"
    )
    assert done.stdout == f'{{\n "uuid": [\n  "{volume}"\n ]\n}}\n'


def test_errors_have_the_command(daemon: osd_daemon.Daemon) -> None:
    assert daemon.failed("memory", "create") == (
        'create: missing parameter "name" - Invalid number of arguments'
    )
    done = daemon.cli("-j", "memory", "create", "a", "b")
    assert done.stdout == ""
    assert json.loads(done.stderr) == {
        "cmd": "create",
        "error": 'missing parameter "name"',
        "desc": "Invalid number of arguments",
    }


def test_names_do_for_ids(daemon: osd_daemon.Daemon, volume: str) -> None:
    path = daemon.run("memory", "mount", "cask")
    assert path == f"{daemon.state_dir}/mounts/memory/cask"
    found = daemon.json("memory", "inspect", "cask", volume)
    assert [each["AttachPath"] for each in found] == [path]
    assert daemon.run("memory", "unmount", "cask") == volume


def test_daemon_chooses_the_path_and_tells_it(daemon: osd_daemon.Daemon, volume: str) -> None:
    assert daemon.json("memory", "mount", volume) == {
        "result": f"{daemon.state_dir}/mounts/memory/cask"
    }


def test_snapshots_and_back(daemon: osd_daemon.Daemon, volume: str) -> None:
    path = Path(daemon.run("memory", "mount", "cask"))
    (path / "label").write_text("1921", encoding="utf-8")
    snapshot = daemon.run(
        "memory", "snap", "cask", "--name", "vintage", "-l", "year=1", "--readonly"
    )
    (path / "label").write_text("water", encoding="utf-8")
    found = daemon.json("memory", "snapEnumerate", "cask", "-l", "year=1", "-n", "vintage")
    assert [(each["ID"], each["Readonly"]) for each in found] == [(snapshot, True)]
    assert daemon.json("memory", "snapEnumerate", "cask", "-l", "year=2") == []
    assert daemon.json("memory", "se", "--name", "other") == []
    assert "attached" in daemon.failed("memory", "restore", "cask", "--snapshot", "vintage")
    daemon.run("memory", "unmount", "cask")
    assert daemon.run("memory", "restore", "cask", "--snapshot", "vintage") == volume
    path = Path(daemon.run("memory", "mount", "cask"))
    assert (path / "label").read_text(encoding="utf-8") == "1921"


def test_clone_has_the_content(daemon: osd_daemon.Daemon, volume: str) -> None:
    path = Path(daemon.run("memory", "mount", "cask"))
    (path / "label").write_text("1921", encoding="utf-8")
    daemon.run("memory", "create", "barrel", "--from", "cask")
    copy = Path(daemon.run("memory", "mount", "barrel"))
    assert (copy / "label").read_text(encoding="utf-8") == "1921"
    daemon.run("memory", "unmount", "barrel")
    daemon.run("memory", "delete", "barrel")


def test_table_is_for_people_and_programs(daemon: osd_daemon.Daemon, volume: str) -> None:
    lines = daemon.run("memory", "list").splitlines()
    assert lines[0].split() == ["NAME", "ID", "SIZE", "USED", "FORMAT", "STATE", "ON", "AT"]
    assert lines[1].split()[:4] == ["cask", volume, "11.0", "MiB"]
    (row,) = daemon.json("memory", "list", "--label", "wine=red")
    assert (row["name"], row["size"], row["state"]) == ("cask", 11 * 1024**2, "available")
    assert daemon.json("memory", "list", "-l", "wine=white") == []
    assert daemon.run("memory", "list", "-q") == volume


def test_labels_sizes_and_schedules_change(daemon: osd_daemon.Daemon, volume: str) -> None:
    daemon.run("memory", "label", "cask", "-l", "age=3", "--remove", "wine")
    daemon.run("memory", "grow", "cask", "--size", "1G")
    daemon.run("memory", "schedule", "cask", "--si", "15", "--keep", "4")
    (found,) = daemon.json("memory", "inspect", "cask")
    assert found["Locator"]["VolumeLabels"] == {"age": "3"}
    assert found["Spec"]["Size"] == 1024**3
    assert found["Spec"]["SnapshotInterval"] == 15
    assert daemon.json("memory", "usage", "cask")["result"]["used"] == 0


def test_block_volumes_are_attached_and_formatted(daemon: osd_daemon.Daemon) -> None:
    volume = daemon.run("memory_block", "create", "disk", "--fs", "xfs", "-s", "5")
    device = json.loads(daemon.run("memory_block", "attach", volume))
    assert daemon.json("memory_block", "inspect", volume)[0]["DevicePath"] == device
    assert daemon.run("memory_block", "format", volume) == volume
    assert daemon.run("memory_block", "detach", volume) == volume
    assert daemon.run("memory_block", "snapDelete", volume) == volume


def test_file_drivers_refuse_devices(daemon: osd_daemon.Daemon, volume: str) -> None:
    for command in ("attach", "detach", "format"):
        assert daemon.failed("memory", command, volume) == f"{command}: Operation not supported"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("memory", "create", "v", "-s", "0"), "can't be a size"),
        (("memory", "create", "v", "-s", "9999999T"), "can't be a size"),
        (("memory", "create", "v", "-s", "much"), "'much' is no size"),
        (("memory", "create", "v", "--fs", "zsf"), "zsf"),
        (("memory", "create", "../v"), "can't be a volume's name"),
        (("memory", "create", "cask"), "cask"),
        (("memory", "create", "v", "-l", "novalue"), "Malformed label: novalue"),
        (("memory", "create", "v", "-l", "a=1,a=2"), "Duplicate label: a=2"),
        (("memory", "create", "v", "--from", "nobody"), "Volume does not exist."),
        (("memory", "create", "v", "--szie", "3"), "unrecognized arguments: --szie"),
        (("memory", "mount", "nobody"), "Volume does not exist."),
        (("memory", "mount", NOBODY), "Volume does not exist."),
        (("memory", "mount", "cask", "--path", "/etc"), "below"),
        (("memory", "mount"), 'missing parameter "volumeID"'),
        (("memory", "delete", NOBODY), "Key not found"),
        (("memory", "grow", "cask", "-s", "1"), "can't shrink"),
        (("memory", "grow", "cask"), 'missing parameter "size"'),
        (("memory", "restore", "cask"), 'missing parameter "snapshot"'),
        (("memory", "label", "cask"), 'missing parameter "label"'),
        (("memory", "schedule", "cask"), 'missing parameter "snap_interval"'),
        (("memory", "schedule", "cask", "--si", "-4"), "-4 can't be a snapshot interval"),
        (("memory", "stats", "cask"), "Operation not supported"),
        (("memory", "explode"), "no command 'explode'"),
        (("nobody", "list"), "no daemon serves this driver"),
        (("../x", "list"), "can't be a driver's name"),
        (("cluster", "status"), "Cluster is not initialized."),
        (("cluster", "remove"), 'missing parameter "machine"'),
        (("cluster", "shutdown"), "Not implemented"),
        (("--file", "/nowhere.yaml", "memory", "list"), "There is no configuration"),
        (("completion", "csh"), "bash, zsh or fish"),
        (("--josn", "memory", "list"), "unrecognized"),
    ],
)
def test_what_is_wrong_is_told(
    daemon: osd_daemon.Daemon, volume: str, words: tuple[str, ...], said: str
) -> None:
    told = daemon.failed(*words)
    assert said in told
    assert len(told.splitlines()) == 1
    assert said in json.loads(daemon.failed("--json", *words)).values().__str__()


def test_mounted_volume_is_safe(daemon: osd_daemon.Daemon, volume: str) -> None:
    daemon.run("memory", "mount", "cask")
    assert daemon.failed("memory", "delete", "cask") == "delete: Volume is attached"


def test_help_and_version(daemon: osd_daemon.Daemon) -> None:
    assert daemon.run("version") == daemon.run("--version") == daemon.run("-v")
    assert daemon.run("version").startswith("osd version ")
    for words in ((), ("help",), ("h",), ("--help",)):
        assert "snapEnumerate, se" in daemon.run(*words)
    assert "--snap_interval" in daemon.run("help", "create")
    assert "--path" in daemon.run("memory", "mount", "--help")
    assert "snapEnumerate" in daemon.run("memory")
    assert "gossip-status" in daemon.run("cluster", "help")


def complete(daemon: osd_daemon.Daemon, *words: str) -> list[str]:
    return daemon.run("_complete", *words).split()


def test_completion(daemon: osd_daemon.Daemon, volume: str) -> None:
    assert complete(daemon, "mem") == ["memory", "memory_block"]
    assert complete(daemon, "--js") == ["--json"]
    assert complete(daemon, "-j", "memory", "snap") == ["snap", "snapEnumerate"]
    assert complete(daemon, "memory", "create", "--r") == ["--repl"]
    assert complete(daemon, "memory", "mount", "c") == ["cask"]
    assert complete(daemon, "cluster", "en") == ["enumerate", "enable-gossip"]
    assert complete(daemon, "driver", "") == ["list", "add"]
    assert complete(daemon, "completion", "") == ["bash", "zsh", "fish"]
    assert complete(daemon, "nobody", "mount", "") == []


def test_bash_completes(daemon: osd_daemon.Daemon, volume: str) -> None:
    script = """
eval "$(osd completion bash)"
COMP_WORDS=(osd memory mount ca); COMP_CWORD=3; _osd; printf '%s\\n' "${COMPREPLY[@]}"
"""
    done = subprocess.run(
        ["bash", "-ec", script], capture_output=True, text=True, env=daemon.environment, check=True
    )
    assert done.stdout == "cask\n"


def test_reader_that_goes_is_no_error(daemon: osd_daemon.Daemon, volume: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{osd_daemon.OSD} memory enumerate | true; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        env=daemon.environment,
        check=False,
    )
    assert "Traceback" not in done.stderr


def test_commands_need_none_of_the_extras() -> None:
    code = "import sys, container_stack.cmd.osd.main; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for heavy in ("docker", "yaml", "sqlalchemy", "falcon", "requests", "oslo_rootwrap"):
        assert heavy not in done.stdout.split(), heavy
