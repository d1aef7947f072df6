# SPDX-License-Identifier: Apache-2.0
"""The process is killed after every step of a share's life; the next start puts things right."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from container_stack.host import containers
from container_stack.rootwrap import commands, executor
from container_stack.shares import assembly, cifs, model, service
from container_stack.testing import privilege

from . import shares_host

host = shares_host.host
samba_image = shares_host.samba_image

#: The engine's calls that change something.
CHANGES = [
    "create",
    "create_network",
    "create_volume",
    "exec",
    "remove",
    "remove_network",
    "remove_volume",
    "rename",
    "start",
]
ALICE = cifs.Rule("user", "alice")


class Fate:
    """Kills this process after so many steps."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def step(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def bind(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            self.step()
            return result

        return stepping


class MortalEngine(containers.Engine):
    """An engine's client that counts what changes the engine."""

    def __init__(self, fate: Fate) -> None:
        super().__init__()
        for name in CHANGES:
            setattr(self, name, fate.bind(getattr(self, name)))


class MortalExecutor(executor.Executor):
    """An executor that counts its commands."""

    def __init__(self, fate: Fate, of: executor.Executor) -> None:
        super().__init__(of._helper, state_dir=of.state_dir)
        self._fate = fate

    def run(self, command: commands.Command, **values: Any) -> str:
        out = super().run(command, **values)
        self._fate.step()
        return out


def live(settings: assembly.Settings, spec: model.ServerSpec, steps: int, said: Path) -> None:
    """Live a share's whole life in this process, and die after so many steps.

    :param said: where it says what was promised to have been done.
    """

    def promise(word: str) -> None:
        with said.open("a") as file:
            file.write(f"{word}\n")

    fate = Fate(steps)
    run = MortalExecutor(fate, privilege.make_executor(Path(settings.state_dir)))
    shares = assembly.assemble(settings, MortalEngine(fate), run)
    shares.start()
    shares.create_server(spec)
    promise("server")
    shares.create("share-1", spec.id, shares_host.SMALL)
    promise("share")
    shares.set_rules("share-1", [ALICE])
    promise("rules")
    shares.extend("share-1", 2 * shares_host.SMALL)
    promise("extended")
    shares.delete("share-1")
    promise("share deleted")
    shares.delete_server(spec.id)
    promise("server deleted")
    run.close()


def die_after(steps: int, host: shares_host.Host, said: Path) -> bool:
    """Live in a child that dies after so many steps; tell whether it died before the end."""
    # Not forked: this process has threads, whose locks a fork would copy as they are.
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=live, args=(host.settings, host.spec(), steps, said))
    child.start()
    child.join(120)
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode != 0


def check_promises(shares: service.ShareService, promised: list[str]) -> None:
    servers, kept = list(shares.servers.list()), list(shares.list())
    assert all(each.state == "active" for each in servers)
    if "server deleted" in promised:
        assert servers == []
    elif "server" in promised and "share deleted" not in promised:
        assert len(servers) == 1
    if "share" in promised and "extended" not in promised:
        assert [each.id for each in kept] == ["share-1"]
    if "share deleted" in promised:
        assert kept == []
    if "rules" in promised and "extended" not in promised:
        samba = shares.servers.speaking(servers[0], "CIFS")
        assert samba.shares() == {"share-1": frozenset({ALICE})}


def check_whole(host: shares_host.Host, shares: service.ShareService) -> None:
    """Nothing is on the host but what belongs to the servers and shares that are listed."""
    servers, kept = len(list(shares.servers.list())), len(list(shares.list()))
    assert host.things() == {
        "containers": servers,
        "networks": min(servers, 1),
        "volumes": servers,
        "mounts": kept,
        "loop devices": kept,
        "files": 2 * kept,
        "directories": servers,
        "mount points": kept,
    }


def test_whenever_it_is_killed_the_next_start_keeps_promises_and_leaves_no_orphan(host, tmp_path):
    engine, run = containers.Engine(), host.new_executor()
    steps = 0
    died = True
    while died:
        steps += 1
        said = tmp_path / f"said-{steps}"
        said.touch()
        died = die_after(steps, host, said)
        shares = host.service(engine, run)
        assert shares.recover().failed == {}, f"killed after step {steps}"
        promised = said.read_text().split("\n")
        check_promises(shares, promised)
        check_whole(host, shares)
        for share in shares.list():
            shares.delete(share.id)
        for server in shares.servers.list():
            shares.delete_server(server.id)
        assert host.things() == shares_host.nothing(), f"killed after step {steps}"
    assert steps > 15, "a life has more steps than this; were they counted?"
