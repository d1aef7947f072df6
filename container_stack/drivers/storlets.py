# SPDX-License-Identifier: Apache-2.0
"""Storlets: accounts' images, in Swift and on its nodes.

In an operator's own service::

    settings = storlets.Settings(gateway_conf="/etc/swift/storlet_docker_gateway.conf")
    credentials = swift.Credentials.from_environment()
    manager = storlets.ImageManager(settings, swift.Swift(credentials), who="nightly")
    manager.deploy(manager.account("AUTH_305f5f3d"), "ffmpeg.tar")

This module puts the parts of :mod:`container_stack.storlets` together and decides nothing.
"""

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence

from container_stack import exceptions
from container_stack.drivers import storlet_lock, storlet_nodes, storlet_workbench, swift
from container_stack.host import locks
from container_stack.storlets import (
    accounts,
    archive,
    claims,
    events,
    inspection,
    model,
    objects,
    partfile,
    report,
    stored_images,
    transfer,
    versions,
)
from container_stack.storlets import deployer as deployers
from container_stack.storlets import settings as plain
from container_stack.storlets import trial as trials

Settings = plain.Settings

#: What a report's object is called after its image's.
REPORT = ".report.json"


class ImageManager:
    """Images of accounts, for whoever manages one account or all storlets.

    Nothing is contacted or read until it is used.

    :param store: the user's own account; a storlet manager's keeps the state of deployments.
    :param who: for the history.
    """

    def __init__(self, values: Settings, store: swift.Swift, *, who: str = "") -> None:
        self.settings = values
        self.store = store
        self.bench = storlet_workbench.Workbench(values)
        self._who = who

    @functools.cached_property
    def deployer(self) -> deployers.Deployer:
        """What changes nodes.

        :raises InvalidRequest: the inventory can't be used.
        """
        values = self.settings
        return deployers.Deployer(
            self.store,
            storlet_nodes.all_of(values, self.bench.gateway),
            storlet_lock.Locks(values.locks).hold,
            who=self._who,
            policy=values.rollout,
            archives=stored_images.StoredImages(self.store, values.segment_size),
        )

    def account(self, name: str | None = None) -> model.Account:
        """Return an account, the user's own unless one is named.

        :raises InvalidRequest: it can't have an image of its own.
        """
        return model.Account(name or self.store.account, self.settings.reseller_prefix)

    def of(self, account: model.Account) -> objects.ObjectStore:
        """Return an account's containers, as the user sees them."""
        return self.store if account.name == self.store.account else self.store.to(account.name)

    def check_archive(self, path: str) -> str:
        """Return the ID of the image in an archive, of which only headers are read.

        :raises InvalidRequest: it is no image archive, or doesn't stand on the base.
        """
        with partfile.local(path), open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            return archive.ImageArchive.open(file, size, self.settings.bounds).image_id

    # Accounts -----------------------------------------------------------------------------

    def enable(
        self, account: model.Account, users: Sequence[str], *, dry_run: bool = False
    ) -> Sequence[accounts.Change]:
        """Make an account ready for storlets; see :func:`accounts.enable`.

        Who enables his own account has no say over scopes; a deployment checks those anyway.
        """
        return accounts.enable(
            self.of(account), self._claims(account), account, users, dry_run=dry_run
        )

    def disable(
        self, account: model.Account, *, dry_run: bool = False
    ) -> Sequence[accounts.Change]:
        """Let an account run no storlets any more; see :func:`accounts.disable`."""
        return accounts.disable(self.of(account), self._claims(account), account, dry_run=dry_run)

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
        values, store = self.settings, self.of(account)
        image_id = self.bench.base().image_id
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
            self.bench.save(image_id, path, progress)
            done = accounts.publish(
                store,
                path,
                values.base_object,
                values.base_image,
                segment_size=values.segment_size,
                progress=progress,
            )
        return image_id, done.moved

    def _claims(self, account: model.Account) -> claims.Claims | None:
        return None if account.name == self.store.account else claims.Claims(self.store)

    # Images in Swift ----------------------------------------------------------------------

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
            segment_size=self.settings.segment_size,
            progress=progress,
        )

    def inspect(self, account: model.Account, name: str) -> inspection.Inspection:
        """Return what an uploaded image is, without downloading it."""
        store, bounds = self.of(account), self.settings.bounds
        layers = self._base_layers(store)
        return inspection.inspect(store, model.IMAGES, name, layers, bounds)

    def _base_layers(self, store: objects.ObjectStore) -> Sequence[str]:
        """Return those of the base in the engine, or else of what the account has for it."""
        try:
            return self.bench.base().layers
        except (exceptions.HostNotReady, exceptions.EngineUnavailable):
            return inspection.layers(
                store, model.IMAGES, self.settings.base_object, self.settings.bounds
            )

    # Verifying and deploying --------------------------------------------------------------

    def verify(
        self,
        account: model.Account,
        name: str,
        *,
        trial: trials.Trial | None = None,
        java: bool = False,
        base_image: str | None = None,
        store_report: bool = False,
        progress: model.Progress = model.silent,
    ) -> report.Report:
        """Return what all checks say of an uploaded image.

        :param store_report: store the report beside it, too.
        """
        with self._fetched(account, name, progress) as (path, _found):
            made = self.bench.verify(
                path, account, base_image=base_image, trial=trial, java=java, progress=progress
            )
        if store_report:
            self.store_report(account, name, made)
        return made

    def store_report(self, account: model.Account, name: str, made: report.Report) -> None:
        """Store a report beside the image, for the account's manager."""
        data = json.dumps(made.to_json(), indent=2).encode()
        self.of(account).write(
            model.IMAGES, f"{name}{REPORT}", data, content_type="application/json"
        )

    def deploy(
        self,
        account: model.Account,
        name: str,
        *,
        note: str = "",
        trial: trials.Trial | None = None,
        java: bool = False,
        store_report: bool = False,
        dry_run: bool = False,
        progress: model.Progress = model.silent,
        watcher: events.Watcher = events.unwatched,
    ) -> deployers.Result:
        """Verify an uploaded image, and let the account's storlets run in it on all nodes.

        :param dry_run: verify, and only plan.
        :raises ProbeFailed: it didn't pass its verification; nothing was changed.
        """
        claims.Claims(self.store).check(account)
        with self._fetched(account, name, progress) as (path, found):
            made = self.bench.verify(path, account, trial=trial, java=java, progress=progress)
            if store_report:
                self.store_report(account, name, made)
            _check(made)
            with open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                image = archive.ImageArchive.open(file, size, self.settings.bounds)
                return self.deployer.deploy(
                    account,
                    image,
                    made,
                    source=versions.Source(found.container, found.name, found.etag),
                    note=note,
                    watcher=watcher,
                    dry_run=dry_run,
                )

    @contextlib.contextmanager
    def _fetched(
        self, account: model.Account, name: str, progress: model.Progress
    ) -> Iterator[tuple[str, objects.Object]]:
        """Lend an archive as a file that nobody else can change; after a crash it goes on."""
        with self._work(f"{account.name}/{name}") as path:
            done = self.download(account, name, path, progress)
            yield path, done.object

    @contextlib.contextmanager
    def _work(self, what: str) -> Iterator[str]:
        """Lend the path of a file that is removed in the end, and is nobody else's."""
        directory = os.path.join(self.settings.state_dir, "images")
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


def _check(made: report.Report) -> None:
    failed = [each for each in made.findings if each.state is report.State.FAILED]
    if failed:
        text = "; ".join(f"{each.check}: {each.detail} {each.cure}" for each in failed)
        raise exceptions.ProbeFailed(f"The image didn't pass its verification. {text}")
