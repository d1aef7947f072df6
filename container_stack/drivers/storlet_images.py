# SPDX-License-Identifier: Apache-2.0
"""Images of accounts in Swift: the base that is handed out, and what comes back."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence

from container_stack import exceptions
from container_stack.drivers import storlet_workbench, swift
from container_stack.host import locks
from container_stack.storlets import model, objects, settings
from container_stack.storlets.image import archive
from container_stack.storlets.store import accounts, inspection, partfile, transfer
from container_stack.storlets.verification import report

#: What a report's object is called after its image's.
REPORT = ".report.json"


class Images:
    """Images of accounts, as one user sees them.

    :param store: the user's own account.
    """

    def __init__(
        self, values: settings.Settings, store: swift.Swift, bench: storlet_workbench.Workbench
    ) -> None:
        self._settings = values
        self._store = store
        self._bench = bench

    def of(self, account: model.Account) -> objects.ObjectStore:
        """Return an account's containers, as the user sees them."""
        return self._store if account.name == self._store.account else self._store.to(account.name)

    def check_archive(self, path: str) -> str:
        """Return the ID of the image in an archive, of which only headers are read.

        :raises InvalidRequest: it is none.
        """
        with partfile.local(path), open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            return archive.ImageArchive.open(file, size, self._settings.bounds).image_id

    def publish(
        self,
        account: model.Account,
        *,
        dry_run: bool = False,
        progress: model.Progress = model.silent,
    ) -> tuple[str, int]:
        """Put the base image into an account, and return its ID and the bytes that were sent.

        Nothing is sent if that image is there.
        """
        values, store = self._settings, self.of(account)
        image_id = self._bench.base().image_id
        with contextlib.suppress(exceptions.NotFound, exceptions.InvalidRequest):
            found = accounts.image(store, values.base_object)
            if (
                found.name == values.base_image
                and self.inspect(account, values.base_object).image_id == image_id
            ):
                return image_id, 0
        if dry_run:
            return image_id, 0
        with self._work(f"base/{image_id}") as path:
            self._bench.save(image_id, path, progress)
            done = accounts.publish(
                store,
                path,
                values.base_object,
                values.base_image,
                segment_size=values.segment_size,
                progress=progress,
            )
        return image_id, done.moved

    def download(
        self,
        account: model.Account,
        name: str,
        path: str,
        progress: model.Progress = model.silent,
    ) -> transfer.Transferred:
        """Bring an image's archive to a file; see :func:`transfer.download`.

        Nothing is fetched if the file has the bytes that were uploaded.
        """
        store = self.of(account)
        found = store.head(model.IMAGES, name)
        uploaded = found.metadata.get(transfer.SHA256)
        if uploaded and uploaded == _digest(path, found.size):
            return transfer.Transferred(found, uploaded, 0)
        return transfer.download(store, model.IMAGES, name, path, progress)

    def upload(
        self,
        account: model.Account,
        path: str,
        name: str,
        metadata: Mapping[str, str] | None = None,
        progress: model.Progress = model.silent,
    ) -> transfer.Transferred:
        """Store an image's archive; see :func:`transfer.upload`."""
        return transfer.upload(
            self.of(account),
            model.IMAGES,
            name,
            path,
            metadata=metadata,
            segment_size=self._settings.segment_size,
            progress=progress,
        )

    def inspect(self, account: model.Account, name: str) -> inspection.Inspection:
        """Return what an uploaded image is, without downloading it."""
        store, bounds = self.of(account), self._settings.bounds
        layers = self._base_layers(store)
        return inspection.inspect(store, model.IMAGES, name, layers, bounds)

    def _base_layers(self, store: objects.ObjectStore) -> Sequence[str]:
        """Return those of the base in the engine, or else of what the account has for it."""
        try:
            return self._bench.base().layers
        except (exceptions.HostNotReady, exceptions.EngineUnavailable):
            return inspection.layers(
                store, model.IMAGES, self._settings.base_object, self._settings.bounds
            )

    def store_report(self, account: model.Account, name: str, made: report.Report) -> None:
        """Store a report beside the image, for the account's manager."""
        data = json.dumps(made.to_json(), indent=2).encode()
        self.of(account).write(
            model.IMAGES, f"{name}{REPORT}", data, content_type="application/json"
        )

    @contextlib.contextmanager
    def fetched(
        self, account: model.Account, name: str, progress: model.Progress
    ) -> Iterator[tuple[str, objects.Object]]:
        """Lend an archive as a file that nobody else can change; after a crash it goes on."""
        with self._work(f"{account.name}/{name}") as path:
            done = self.download(account, name, path, progress)
            yield path, done.object

    @contextlib.contextmanager
    def _work(self, what: str) -> Iterator[str]:
        """Lend the path of a file that is removed in the end, and is nobody else's."""
        directory = os.path.join(self._settings.state_dir, "images")
        digest = hashlib.sha256(what.encode()).hexdigest()[:32]
        path, lock = (os.path.join(directory, f"{digest}.{end}") for end in ("tar", "lock"))
        with contextlib.ExitStack() as undo:
            try:
                os.makedirs(directory, mode=0o700, exist_ok=True)
                undo.callback(os.close, locks.lock(lock, wait=False))
            except OSError as exc:
                raise exceptions.HostNotReady(
                    f"Can't use {exc.filename}: {exc.strerror}; set state_dir."
                ) from exc
            undo.callback(os.unlink, lock)
            undo.callback(_remove, path)
            yield path


def _digest(path: str, size: int) -> str:
    """Return a file's SHA-256, or nothing if there is none of that size."""
    if not os.path.isfile(path) or os.path.getsize(path) != size:
        return ""
    with partfile.local(path), open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
