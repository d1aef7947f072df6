# SPDX-License-Identifier: Apache-2.0
"""The demo of the Glance store: a real image goes to a simulated Datera array and back."""

import contextlib
import hashlib
import os
import secrets
import shutil
import tempfile
import time
import uuid
from pathlib import Path

from container_stack.cmd.demo import command, glance_backend, host, steps
from container_stack.host import attach, attach_libiscsi, containers, images
from container_stack.testing.edf import simulator

MIB = 1024**2
#: The range that is read: from within a block to within another.
OFFSET, LENGTH = 5_000_011, 70_001


class Walk:
    """One image in one store on one array."""

    def __init__(self, options: command.Options, steps: steps.Steps) -> None:
        self.steps = steps
        self._options = options
        self._image_id = str(uuid.uuid4())
        self._clone_id = str(uuid.uuid4())

    def there(self, undo: contextlib.ExitStack) -> None:
        """Upload an image with Glance's store, read it and clone it."""
        top = Path(tempfile.mkdtemp(prefix="container-stack-demo-"))
        undo.callback(shutil.rmtree, top, ignore_errors=True)
        archive = self._save_image(top)
        array = self._start_array(top, undo)
        undo.callback(self._look_for_leftovers, array, top)
        store = self._load_store(top, array)
        location, digest = self._upload(store, archive)
        undo.callback(self._delete, store, location)
        self._read_range(store, location, archive)
        self._download(store, location, digest)
        undo.callback(self._delete_clone, store)
        self._clone(store, archive)
        self._refuse(store, location)
        if self._options.keep:
            self.steps.wait(f"glance-api.conf for this array is {top}/glance-api.conf")

    def _save_image(self, top: Path) -> Path:
        with self.steps.step("An image, as the engine saves it") as step:
            engine_images = images.Images(containers.Engine(self._options.docker_url))
            host.ensure_image(engine_images, self._options.image, self.steps.stream)
            archive = top / "image.tar"
            with archive.open("wb") as file:
                for chunk in engine_images.save([self._options.image]):
                    file.write(chunk)
            step.detail = f"{self._options.image}, {archive.stat().st_size / MIB:.0f} MiB"
        return archive

    def _start_array(self, top: Path, undo: contextlib.ExitStack) -> simulator.Simulator:
        with self.steps.step("A simulated Datera array starts") as step:
            array = undo.enter_context(
                simulator.Simulator(
                    top / "array", login="glance", password=secrets.token_urlsafe(), port=0
                )
            )
            step.detail = f"REST over TLS on port {array.port}, volumes by iSCSI"
        return array

    def _load_store(self, top: Path, array: simulator.Simulator) -> glance_backend.Backend:
        with self.steps.step("Glance's library loads the store") as step:
            conf_file = top / "glance-api.conf"
            conf_file.touch(mode=0o600)
            conf_file.write_text(
                glance_backend.CONF_FILE.format(
                    name=glance_backend.NAME,
                    address=array.address,
                    port=array.port,
                    login=array.login,
                    password=array.password,
                    ca_file=array.ca_file,
                    state_dir=top / "state",
                ),
                encoding="utf-8",
            )
            store = glance_backend.Backend(conf_file)
            self.steps.promise(store.writable, "it is closed to uploads; its log says why")
            step.detail = "logged in, tenant /root/images made"
        return store

    def _upload(self, store: glance_backend.Backend, archive: Path) -> tuple[str, str]:
        with self.steps.step("Upload it, its size untold") as step, archive.open("rb") as file:
            started = time.monotonic()
            location, size, digest = store.upload(self._image_id, file)
            seconds = time.monotonic() - started
            file.seek(0)
            wanted = hashlib.file_digest(file, "sha512").hexdigest()
            self.steps.promise(digest == wanted, "the store's SHA-512 isn't the image's")
            self.steps.promise(size == archive.stat().st_size, f"the store says {size} bytes")
            step.detail = f"{location}, {size / MIB / seconds:.0f} MiB/s, hashed twice"
        return location, digest

    def _read_range(self, store: glance_backend.Backend, location: str, archive: Path) -> None:
        with self.steps.step("Read a range from its middle") as step:
            found = b"".join(store.read(location, OFFSET, LENGTH))
            self.steps.promise(found == _range(archive), "other bytes than were written")
            step.detail = f"{LENGTH} bytes from {OFFSET} on"

    def _download(self, store: glance_backend.Backend, location: str, digest: str) -> None:
        with self.steps.step("Download it") as step:
            started = time.monotonic()
            hashed, size = hashlib.sha512(), 0
            for piece in store.read(location):
                hashed.update(piece)
                size += len(piece)
            self.steps.promise(hashed.hexdigest() == digest, "other bytes than were written")
            step.detail = f"{size / MIB / (time.monotonic() - started):.0f} MiB/s, same SHA-512"

    def _clone(self, store: glance_backend.Backend, archive: Path) -> None:
        with self.steps.step("Clone it; a server writes to its clone") as step:
            attacher = attach_libiscsi.LibiscsiAttacher.open(
                attach.Options(initiator="iqn.2026-11.example.demo:server")
            )
            target = store.clone(self._image_id, self._clone_id, attacher.initiator)
            with attacher.attach(target) as device:
                same = device.read(OFFSET, LENGTH) == _range(archive)
                self.steps.promise(same, "the clone has other bytes")
                device.write(OFFSET, b"written by the server")
                device.flush()
            step.detail = target.iqn

    def _refuse(self, store: glance_backend.Backend, location: str) -> None:
        with self.steps.step("Deleting it is refused: a clone needs it"):
            self.steps.promise(not store.delete(location), "it was deleted")

    def _delete_clone(self, store: glance_backend.Backend) -> None:
        with self.steps.step("Delete the clone", back=True):
            store.delete_clone(self._image_id, self._clone_id)

    def _delete(self, store: glance_backend.Backend, location: str) -> None:
        with self.steps.step("Delete the image", back=True):
            self.steps.promise(store.delete(location), "it is in use")

    def _look_for_leftovers(self, array: simulator.Simulator, top: Path) -> None:
        with self.steps.step("Nothing is left on the array", back=True) as step:
            left = [each["name"] for each in array.app_instances()]
            left += os.listdir(array.directory / "volumes")
            self.steps.promise(not left, ", ".join(left))
            step.detail = "no app instance, no volume"


def _range(archive: Path) -> bytes:
    with archive.open("rb") as file:
        file.seek(OFFSET)
        return file.read(LENGTH)
