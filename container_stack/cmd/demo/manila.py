# SPDX-License-Identifier: Apache-2.0
"""The demo of Manila, step by step; each step checks what it promises."""

import contextlib
import hashlib
import ipaddress
import os
import secrets
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from container_stack import exceptions
from container_stack.cmd.demo import command, host, manila_backend, smb, smb_clients, steps
from container_stack.host import containers, filesystem, images
from container_stack.rootwrap import commands, config, executor

GIB = 1024**3
#: Seconds in which a live session must end after its rule has gone.
CUT = 1.0


class Walk:
    """One share on one server."""

    def __init__(self, options: command.Options, steps: steps.Steps) -> None:
        self.steps = steps
        self._keep = options.keep
        self._image = options.image
        self._docker_url = options.docker_url
        self._engine = containers.Engine(options.docker_url)
        self._section = f"demo-{secrets.token_hex(4)}"
        self._owner = f"manila-{self._section}"

    def there(self, undo: contextlib.ExitStack) -> None:
        """Make a share with Manila's driver, use it, and cut it off."""
        top = Path(tempfile.mkdtemp(prefix="container-stack-demo-"))
        undo.callback(shutil.rmtree, top, ignore_errors=True)
        self._find_engine()
        self._find_image()
        helper = self._install_filters(top)
        subnet = host.free_subnet(self._engine)
        undo.callback(self._look_for_leftovers, top / "state", helper, subnet)
        backend = self._load_driver(top, helper)
        self._create_server(backend, subnet)
        undo.callback(self._delete_server, backend)
        location, keys = self._create_share(backend)
        undo.callback(self._delete_share, backend)
        with smb.Client(location, "alice", keys["alice"]) as alice:
            self._write_tree(alice)
            self._read_tree(location, keys["bob"])
            self._refuse(location, keys)
            self._extend(backend, alice)
            self._revoke(backend, alice, keys)
        if self._keep:
            self._wait(backend, location)

    def _find_engine(self) -> None:
        with self.steps.step("Docker Engine answers") as step:
            step.detail = f"version {self._engine.version()['Version']}, {self._docker_url}"

    def _find_image(self) -> None:
        with self.steps.step("Image of the share servers") as step:
            known = images.Images(self._engine)
            built = host.ensure_image(known, self._image, self.steps.stream)
            step.detail = (
                f"built {self._image} from Debian packages" if built else f"{self._image} was there"
            )

    def _install_filters(self, top: Path) -> str:
        with self.steps.step("Root helper starts, with filters") as step:
            state_dir = top / "state"
            state_dir.mkdir()
            config.install(top / "rootwrap", ["manila"], str(state_dir))
            root = os.geteuid() == 0
            helper = host.root_helper(top / "rootwrap" / "rootwrap.conf")
            if not root:
                _ask_sudo(helper)
            # A command that can only fail, for want of its file: it was let through and ran.
            runner = executor.Executor(helper, state_dir=str(state_dir))
            with contextlib.closing(runner), contextlib.suppress(exceptions.CommandFailed):
                runner.run(commands.fs.THAW, path=f"{state_dir}/mounts/none")
            step.detail = "as root; filters apply" if root else "through sudo"
        return helper

    def _load_driver(self, top: Path, helper: str) -> manila_backend.Backend:
        with self.steps.step("Driver loads from its conf file and starts") as step:
            conf_file = top / "manila.conf"
            conf_file.write_text(
                manila_backend.CONF_FILE.format(
                    section=self._section,
                    image=self._image,
                    docker_url=self._docker_url,
                    state_dir=top / "state",
                    root_helper=helper,
                ),
                encoding="utf-8",
            )
            backend = manila_backend.Backend(conf_file, self._section)
            pool = backend.start()
            total, free = pool["total_capacity_gb"], pool["free_capacity_gb"]
            self.steps.promise(0 < free <= total, f"{free} of {total} GiB can't be free")
            step.detail = f"{free:.1f} of {total:.1f} GiB free"
        return backend

    def _create_server(
        self, backend: manila_backend.Backend, subnet: ipaddress.IPv4Network
    ) -> None:
        with self.steps.step("Create a share server") as step:
            address = backend.create_server(subnet)
            owned = {"container_stack.owner": self._owner}
            states = [each.state for each in self._engine.list(owned)]
            self.steps.promise(states == ["running"], f"its containers are {states}")
            step.detail = f"one container at {address} in {subnet}"

    def _create_share(self, backend: manila_backend.Backend) -> tuple[str, dict[str, str]]:
        with self.steps.step("Create a share: 1 GiB, alice rw, bob ro") as step:
            location = backend.create_share(1)
            keys = backend.set_rules({"alice": "rw", "bob": "ro"})
            good = all(keys.values()) and keys["alice"] != keys["bob"]
            self.steps.promise(good, "a user has no password of his own")
            step.detail = location
        return location, keys

    def _write_tree(self, alice: smb.Client) -> None:
        with self.steps.step("Alice writes a tree of files") as step:
            self.steps.promise(alice.encrypted, "her session isn't encrypted")
            written = alice.write_tree(host.tree())
            step.detail = f"{written / 1e6:.1f} MB, SMB 3.1.1, encrypted"

    def _read_tree(self, location: str, key: str) -> None:
        with self.steps.step("Bob reads it, and may not write") as step:
            wanted = {
                name: hashlib.sha256(path.read_bytes()).hexdigest()
                for name, path in host.tree().items()
            }
            with smb.Client(location, "bob", key) as bob:
                self.steps.promise(bob.tree("library") == wanted, "he reads something else")
                self.steps.promise(bob.write_refused("by-bob"), "he may write")
            step.detail = f"{len(wanted)} files, every SHA-256 as written"

    def _refuse(self, location: str, keys: Mapping[str, str]) -> None:
        with self.steps.step("Mallory is refused") as step:
            attempts = {
                "an unknown user": smb.refused(location, "mallory", keys["alice"]),
                "a wrong password": smb.refused(location, "alice", keys["bob"]),
                "nobody's name": smb.anonymous_refused(location),
            }
            let_in = [how for how, refused in attempts.items() if not refused]
            self.steps.promise(not let_in, f"let in with {', '.join(let_in)}")
            step.detail = ", ".join(attempts)

    def _extend(self, backend: manila_backend.Backend, alice: smb.Client) -> None:
        with self.steps.step("Extend to 2 GiB while alice writes") as step:
            before = alice.volume_size()
            with smb_clients.Writer(alice) as writer:
                done = writer.operations
                backend.extend_share(2)
                during = writer.begun - done
                went_on = writer.go_on(20)
            self.steps.promise(went_on and not writer.failure, f"she failed: {writer.failure}")
            after = alice.volume_size()
            self.steps.promise(after - before > GIB * 0.9, f"she sees {after} bytes")
            step.detail = (
                f"{writer.operations} writes, {during} of them meanwhile, none failed; "
                f"the slowest took {writer.slowest * 1000:.0f} ms"
            )

    def _revoke(
        self, backend: manila_backend.Backend, alice: smb.Client, keys: Mapping[str, str]
    ) -> None:
        with self.steps.step("Revoke alice: her live session is cut") as step:
            alice.write("open", b"x" * 512)
            with (
                smb.Client(alice.location, "bob", keys["bob"]) as bob,
                smb_clients.Session(bob, "open", write=False) as reading,
                smb_clients.Session(alice, "open", write=True) as writing,
            ):
                started = time.monotonic()
                backend.set_rules({"bob": "ro"})
                failed_at = writing.wait_for_failure(CUT)
                self.steps.promise(failed_at is not None, "she goes on writing")
                self.steps.promise(reading.go_on(20), f"bob was cut too: {reading.failure}")
            again = smb.refused(alice.location, "alice", keys["alice"])
            self.steps.promise(again, "she can log in again")
            step.detail = f"after {(failed_at or 0) - started:.2f} s; bob reads on"

    def _wait(self, backend: manila_backend.Backend, location: str) -> None:
        key = backend.set_rules({"alice": "rw"})["alice"]
        place = location.replace("\\", "/")
        self.steps.wait(f"The share is {place}, user alice, password {key}")

    def _delete_share(self, backend: manila_backend.Backend) -> None:
        with self.steps.step("Delete the share", back=True):
            backend.delete_share()

    def _delete_server(self, backend: manila_backend.Backend) -> None:
        with self.steps.step("Delete the share server", back=True):
            backend.delete_server()

    def _look_for_leftovers(
        self, state_dir: Path, helper: str, subnet: ipaddress.IPv4Network
    ) -> None:
        with self.steps.step("Nothing is left", back=True) as step:
            runner = executor.Executor(helper, state_dir=str(state_dir))
            with contextlib.closing(runner):
                filesystem.Filesystems(runner).unshare_tree(str(state_dir / "mounts"))
            left = host.leftovers(self._engine, self._owner, str(state_dir), str(subnet))
            self.steps.promise(not left, ", ".join(left))
            step.detail = "no container, network, volume, mount, loop device, file"


def _ask_sudo(helper: str) -> None:
    words = [word for word in shlex.split(helper) if word not in ("sudo", "-n")]
    if subprocess.run(["sudo", "-n", "-l", *words], capture_output=True, check=False).returncode:
        raise exceptions.RootHelperUnavailable(
            "sudo won't start the root helper without a password; run `sudo -v` before the demo."
        )
