# SPDX-License-Identifier: Apache-2.0
"""The engine dies under running share servers."""

import subprocess

import pytest

from container_stack import exceptions
from container_stack.host import containers, images
from container_stack.shares import cifs, model

from . import shares_host

host = shares_host.host
samba_image = shares_host.samba_image

RULES = [cifs.Rule("user", "alice"), cifs.Rule("user", "bob", "ro")]


def smbclient(container: containers.Container, share: str, login: str, commands: str) -> str:
    """Run Samba's client in the container's own network, which alone reaches it."""
    address = next(iter(container.addresses.values()))[0]
    argv = ["nsenter", f"--net=/proc/{container.pid}/ns/net"]
    argv += ["smbclient", f"//{address}/{share}", "-A", login, "--client-protection=encrypt"]
    done = subprocess.run([*argv, "-c", commands], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_killed_engine_brings_servers_back_with_address_files_rules_and_passwords(
    host, make_dockerd, engine, tmp_path
):
    own = make_dockerd()
    own_engine = containers.Engine(own.url)
    images.Images(own_engine).load(images.Images(engine).save([host.settings.image]))
    shares = host.service(own_engine)
    shares.recover()
    server = shares.create_server(host.spec())
    share = shares.create("share-1", server.id, shares_host.SMALL)
    passwords = shares.set_rules("share-1", RULES)
    login = tmp_path / "login"
    login.write_text(f"username = alice\npassword = {passwords['alice']}\n")
    before = own_engine.inspect(server.container_id)
    (tmp_path / "kept").write_text("kept")
    smbclient(before, "share-1", str(login), f"put {tmp_path}/kept kept")

    own.kill()
    with pytest.raises(exceptions.EngineUnavailable, match="dockerd"):
        shares.create("share-2", server.id, shares_host.SMALL)
    own.start()

    again = host.service(own_engine)
    assert again.recover() == model.Health()
    assert list(again.list()) == [share]
    after = own_engine.inspect(again.servers.get(server.id).container_id)
    assert after.addresses == before.addresses
    assert "kept" in smbclient(after, "share-1", str(login), "ls")
    assert again.servers.speaking(server, "CIFS").shares() == {"share-1": frozenset(RULES)}
    assert again.set_rules("share-1", RULES) == passwords

    # And while the service goes on, which looks after its servers from time to time.
    own.kill()
    again.keep()
    own.start()
    again.keep()
    after = own_engine.inspect(again.servers.get(server.id).container_id)
    assert "kept" in smbclient(after, "share-1", str(login), "ls")
    half = again.create_server(host.spec(11))
    own_engine.rename(half.container_id, f"cs-share-{half.id}.creating")
    again.keep()
    assert [each.id for each in again.servers.list()] == [server.id]
