# SPDX-License-Identifier: Apache-2.0
"""The demo of servers: what Nova's driver does with a container, without Nova."""

import contextlib
import dataclasses
import hashlib
import queue
import secrets
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from container_stack import exceptions
from container_stack.cmd.demo import command, host, steps
from container_stack.host import containers, images
from container_stack.rootwrap import config
from container_stack.servers import assembly, changes, model
from container_stack.servers.wishes import policy, user_data

MIB = 1024**2
#: What a tenant gives with `openstack server create --user-data`, and what he isn't given.
USER_DATA = """\
Entrypoint: [/bin/sh, -c]
Cmd:
- cd /sys/class/net; until cat eth0/address 2>&-; do sleep .1; done; echo I am $ROLE; sleep 600
Env: [ROLE=clerk]
"""
GREEDY = "HostConfig: {Privileged: true}\n"
PORT = model.Port(
    id=str(uuid.uuid4()),
    network=str(uuid.uuid4()),
    binding=model.Binding.NOOP,
    mac="fa:16:3e:00:00:01",
    addresses=("192.0.2.10/24",),
)


class Walk:
    """Two servers: one from an image, the other from what the first has become."""

    def __init__(self, options: command.Options, steps: steps.Steps) -> None:
        self.steps = steps
        self._options = options
        self._owner = f"demo-{secrets.token_hex(4)}"
        self._plan = _plan("clerk")
        self._heir = _plan("heir")

    def there(self, undo: contextlib.ExitStack) -> None:
        """Boot a server, resize it, boot another from its snapshot, and lose one."""
        top = Path(tempfile.mkdtemp(prefix="container-stack-demo-"))
        undo.callback(shutil.rmtree, top, ignore_errors=True)
        archive = self._save_image(top)
        service = self._start(top, undo)
        undo.callback(self._look_for_leftovers, service, top)
        undo.callback(self._forget_images, service)
        image_id = self._take_image(service, archive)
        self._read_user_data()
        undo.callback(self._destroy, service, self._plan)
        self._boot(service, image_id)
        self._pause(service)
        self._resize(service)
        undo.callback(self._destroy, service, self._heir)
        self._snapshot(service)
        self._lose(service)
        if self._options.keep:
            self.steps.wait(f"docker ps --all --filter label=container_stack.owner={self._owner}")

    def _save_image(self, top: Path) -> Path:
        with self.steps.step("An image, as `docker save` gives it") as step:
            engine = containers.Engine(self._options.docker_url)
            known = images.Images(engine)
            host.ensure_image(known, self._options.image, self.steps.stream)
            # Without the labels of ours, which no tenant's image may have.
            plain = f"container-stack-{self._owner}:latest"
            with engine.creating(containers.ContainerSpec(plain[:-7], self._options.image)) as made:
                known.import_tar(engine.get_archive(made, "/"), plain)
                engine.remove(made)
            archive = top / "image.tar"
            with archive.open("wb") as file, contextlib.ExitStack() as undo:
                undo.callback(known.remove, plain)
                file.writelines(known.save([plain]))
            step.detail = f"{archive.stat().st_size / MIB:.0f} MiB"
        return archive

    def _start(self, top: Path, undo: contextlib.ExitStack) -> assembly.Service:
        with self.steps.step("The service of servers starts") as step:
            config.install(top / "rootwrap", ["nova"], str(top / "state"))
            helper = host.root_helper(top / "rootwrap" / "rootwrap.conf")
            service = assembly.open_service(
                assembly.Settings(
                    self._owner,
                    str(top / "state"),
                    root_helper=helper,
                    docker_url=self._options.docker_url,
                )
            )
            undo.callback(service.close)
            service.start()
            step.detail = f"{len(service.engine.list())} containers of others, none touched"
        return service

    def _take_image(self, service: assembly.Service, archive: Path) -> str:
        with self.steps.step("An image that lies about its hash is refused"):
            self.steps.promise(not self._taken(service, archive, "0" * 128), "it was taken")
        with self.steps.step("The image streams into the engine, checked") as step:
            with archive.open("rb") as file:
                digest = hashlib.file_digest(file, "sha512").hexdigest()
            step.detail = self._taken(service, archive, digest)
            self.steps.promise(bool(step.detail), "it was refused")
        return step.detail

    def _taken(self, service: assembly.Service, archive: Path, digest: str) -> str:
        size = archive.stat().st_size
        image = model.Image(str(uuid.uuid4()), digest, "sha512", size)
        with contextlib.suppress(exceptions.InvalidRequest):
            return service.images.ensure(image, lambda: _pieces(archive))
        return ""

    def _read_user_data(self) -> None:
        with self.steps.step("User data that asks for too much is refused") as step:
            try:
                policy.Policy().admit(user_data.parse(GREEDY.encode()))
            except policy.Refused as exc:
                step.detail = str(exc)
            self.steps.promise(bool(step.detail), "it passed")
        wish = policy.Policy().admit(user_data.parse(USER_DATA.encode()))
        self._plan = dataclasses.replace(self._plan, wish=wish, ports=(PORT,))

    def _boot(self, service: assembly.Service, image_id: str) -> None:
        with self.steps.step("The server boots, with a port and user data") as step:
            service.servers.spawn(self._plan, image_id)
            wanted = f"{PORT.mac}\nI am clerk\n"
            while (said := service.servers.console(self._plan.id).decode()) != wanted:
                self.steps.promise(wanted.startswith(said), f"its console says {said!r}")
                time.sleep(0.05)
            step.detail = " / ".join(wanted.splitlines())

    def _pause(self, service: assembly.Service) -> None:
        with self.steps.step("It is paused, and goes on") as step:
            service.servers.pause(self._plan.id)
            paused = service.servers.get(self._plan.id).state
            service.servers.unpause(self._plan.id)
            step.detail = f"{paused}, {service.servers.get(self._plan.id).state}"
            self.steps.promise(step.detail == "paused, running", step.detail)

    def _resize(self, service: assembly.Service) -> None:
        with self.steps.step("Resized, it keeps what it has written") as step:
            self._shell(service, self._plan, "echo 100 > /balance")
            service.moves.park(self._plan)
            self._plan = dataclasses.replace(self._plan, limits=model.Limits(memory=512 * MIB))
            service.moves.finish(self._plan)
            service.moves.confirm(self._plan.id)
            kept = self._shell(service, self._plan, "cat /balance")
            self.steps.promise(kept == "100", f"its balance is {kept!r}")
            step.detail = "from 256 to 512 MiB of memory"

    def _snapshot(self, service: assembly.Service) -> None:
        with self.steps.step("Another boots from its snapshot") as step:
            with service.snapshots.taking(self._plan.id) as archive:
                image = model.Image(str(uuid.uuid4()))
                image_id = service.images.ensure(image, lambda: iter(archive))
            self._heir = dataclasses.replace(self._heir, wish=self._plan.wish, ports=())
            service.servers.spawn(self._heir, image_id)
            kept = self._shell(service, self._heir, "cat /balance")
            self.steps.promise(kept == "100", f"its balance is {kept!r}")
            step.detail = "streamed, no copy on the disk"

    def _lose(self, service: assembly.Service) -> None:
        with self.steps.step("A server that dies is noticed") as step:
            told: queue.SimpleQueue[model.Change] = queue.SimpleQueue()
            watch = changes.Watch(service.engine, self._owner, told.put)
            watch.start()
            try:
                began = time.monotonic()
                service.engine.kill(service.servers.get(self._heir.id).container_id)
                change = told.get(timeout=60)
                step.detail = f"after {(time.monotonic() - began) * 1000:.0f} ms"
            finally:
                watch.stop()
            expected = model.Change(self._heir.id, model.State.STOPPED)
            self.steps.promise(change == expected, f"told of {change}")

    # On the way back ------------------------------------------------------------------------

    def _destroy(self, service: assembly.Service, plan: model.Plan) -> None:
        with self.steps.step(f"Destroy {plan.name}", back=True):
            service.servers.destroy(plan.id)

    def _forget_images(self, service: assembly.Service) -> None:
        with self.steps.step("Images that nobody uses go", back=True) as step:
            step.detail = f"{len(service.images.prune((), older_than=0))} of them"
            service.start()  # and what was kept for moves

    def _look_for_leftovers(self, service: assembly.Service, top: Path) -> None:
        with self.steps.step("Nothing is left", back=True) as step:
            left = [each.name for each in service.engine.list(_owned(self._owner))]
            left += service.images.cached().values()
            left += host.kept_open(str(top / "state"))
            self.steps.promise(not left, ", ".join(left))
            step.detail = "no container, no image, no mount"

    def _shell(self, service: assembly.Service, plan: model.Plan, script: str) -> str:
        container = service.servers.get(plan.id).container_id
        return service.engine.exec(container, ["/bin/sh", "-c", script]).stdout.decode().strip()


def _plan(name: str) -> model.Plan:
    return model.Plan(str(uuid.uuid4()), name, name, limits=model.Limits(memory=256 * MIB))


def _owned(owner: str) -> dict[str, str]:
    return {"container_stack.owner": owner}


def _pieces(archive: Path) -> Iterator[bytes]:
    with archive.open("rb") as file:
        while piece := file.read(MIB):
            yield piece
