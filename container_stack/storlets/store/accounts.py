# SPDX-License-Identifier: Apache-2.0
"""What an account needs for storlets, and the images in it.

The containers and the header are those that storlets has always asked for; an account's manager
and the storlet manager hand images to each other in :data:`~container_stack.storlets.model.IMAGES`,
where both may read and write.
"""

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from container_stack import exceptions
from container_stack.storlets import model, objects
from container_stack.storlets.store import claims, transfer

#: What the runtime asks an account for, and what it takes for yes (Swift's config_true_value).
ENABLED = "x-account-meta-storlet-enabled"
_YES = {"true", "1", "yes", "on", "t", "y"}
#: An object's metadata that has its image's name. Swift drops names with underscores.
IMAGE_NAME = "image-name"

#: Where both managers may read and write; who reads an object in segments must read those, too.
_SHARED = (model.IMAGES, model.SEGMENTS)
_CONTAINERS = (*_SHARED, model.STORLETS, model.DEPENDENCIES, model.LOGS)
_ACLS = ("X-Container-Read", "X-Container-Write")
#: project:user, project:* or, with tempauth, a project; nothing that lets in the whole world.
_USER = re.compile(r"[^\s,.:*][^\s,:*]*(:([^\s,:*]+|\*))?")


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """An object with an image's archive, in an account.

    :param name: the image's, as who builds on it writes it after FROM; empty if nobody said.
    :param sha256: of the archive, if it was uploaded by this library; else empty.
    """

    account: str
    object: objects.Object

    @property
    def name(self) -> str:
        return self.object.metadata.get(IMAGE_NAME, "")

    @property
    def sha256(self) -> str:
        return self.object.metadata.get(transfer.SHA256, "")


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """Something that was done, or with a dry run would have been.

    :param what: "container docker_images".
    :param to: what becomes of it.
    """

    what: str
    to: str


class _Steps:
    """Does things or, in a dry run, only tells of them."""

    def __init__(self, *, dry_run: bool) -> None:
        self.changes: list[Change] = []
        self._dry_run = dry_run

    def do(self, what: str, to: str, action: Callable[[], object]) -> None:
        self.changes.append(Change(what, to))
        if not self._dry_run:
            action()


def enable(
    store: objects.ObjectStore,
    known: claims.Claims | None,
    account: model.Account,
    users: Sequence[str],
    *,
    dry_run: bool = False,
) -> Sequence[Change]:
    """Enable an account for storlets, and return what had to change for that; idempotent.

    :param store: the account, as somebody sees it who may change it: its own administrator, or
        the provider's.
    :param known: accounts of the storlet manager's; None when it isn't him who enables: then the
        first deployment finds out that another account has the scope.
    :param users: the storlet manager and the account's manager, as ACLs name them: project:user,
        with Keystone by their IDs. ACLs that are there stay.
    :param dry_run: change nothing.
    :raises InvalidRequest: another account has the same scope, or a name can't be in an ACL.
    """
    _check(store, account, users)
    steps = _Steps(dry_run=dry_run)
    if known is not None:
        _claim(known, account, users, steps)
    for name in _CONTAINERS:
        _prepare(store, name, users if name in _SHARED else (), steps)
    if store.account_headers().get(ENABLED, "").lower() not in _YES:
        steps.do(f"account {account.name}", "enabled", lambda: store.set_account({ENABLED: "True"}))
    return steps.changes


def disable(
    store: objects.ObjectStore,
    known: claims.Claims | None,
    account: model.Account,
    *,
    dry_run: bool = False,
) -> Sequence[Change]:
    """Let an account run no storlets any more, and return what had to change; idempotent.

    Users whom :func:`enable` let in are shut out again. What is in the containers stays, and so
    does the account's scope: no other account gets it.
    """
    _check(store, account, ())
    steps = _Steps(dry_run=dry_run)
    claim = known.check(account) if known else None
    if store.account_headers().get(ENABLED, "").lower() in _YES:
        steps.do(
            f"account {account.name}", "disabled", lambda: store.set_account({ENABLED: "False"})
        )
    if known and claim and claim.enabled:
        for name in _SHARED:
            _shut(store, name, claim.users, steps)
        steps.do(f"scope {account.scope}", "kept", lambda: known.release(claim))
    return steps.changes


def publish(
    store: objects.ObjectStore,
    path: str,
    name: str,
    image_name: str,
    *,
    segment_size: int = transfer.GIB,
    progress: model.Progress = model.silent,
) -> transfer.Transferred:
    """Upload the archive of a base image to an account, where its manager finds it.

    What is there already isn't sent again.

    :param name: of the object.
    :param image_name: what a Dockerfile of the account's says after FROM.
    """
    if not image_name.strip():
        raise exceptions.InvalidRequest("A base image needs a name for Dockerfiles to build on.")
    return transfer.upload(
        store,
        model.IMAGES,
        name,
        path,
        metadata={IMAGE_NAME: image_name},
        segment_size=segment_size,
        progress=progress,
    )


def images(store: objects.ObjectStore) -> Iterator[Image]:
    """Yield the images in an account, by the names of their objects."""
    for each in store.list(model.IMAGES):
        with contextlib.suppress(exceptions.NotFound, exceptions.InvalidRequest):
            yield image(store, each.name)


def image(store: objects.ObjectStore, name: str) -> Image:
    """Return what is known of an image in an account.

    :raises NotFound: there is no such object.
    """
    return Image(store.account, store.head(model.IMAGES, name))


def _check(store: objects.ObjectStore, account: model.Account, users: Sequence[str]) -> None:
    if store.account != account.name:
        raise exceptions.InvalidRequest(f"{store.account} was opened instead of {account.name}.")
    for user in users:
        if not _USER.fullmatch(user):
            raise exceptions.InvalidRequest(
                f"{user!r} can't be given access; say project:user, with Keystone by their IDs."
            )


def _claim(
    known: claims.Claims, account: model.Account, users: Sequence[str], steps: _Steps
) -> None:
    claim = known.check(account)
    if claim is None or not claim.enabled or tuple(claim.users) != tuple(users):
        steps.do(f"scope {account.scope}", account.name, lambda: known.claim(account, users))


def _prepare(store: objects.ObjectStore, name: str, users: Sequence[str], steps: _Steps) -> None:
    """See that there is a container, and that these users may read and write in it."""
    wanted: Mapping[str, str] = {}
    try:
        wanted = _acls(store, name, lambda listed: list(dict.fromkeys([*listed, *users])))
    except exceptions.NotFound:
        if users:
            wanted = dict.fromkeys(_ACLS, ",".join(dict.fromkeys(users)))
        to = "; ".join(["made", *_shown(wanted)])
        steps.do(f"container {name}", to, lambda: store.set_container(name, wanted))
        return
    _set(store, name, wanted, steps)


def _shut(store: objects.ObjectStore, name: str, users: Sequence[str], steps: _Steps) -> None:
    """Take users out of a container's ACLs; fine if there is no container."""
    with contextlib.suppress(exceptions.NotFound):
        wanted = _acls(store, name, lambda listed: [each for each in listed if each not in users])
        _set(store, name, wanted, steps)


def _acls(
    store: objects.ObjectStore, name: str, change: Callable[[list[str]], list[str]]
) -> Mapping[str, str]:
    """Return those ACLs of a container that aren't as they should be, as they should."""
    there = store.container(name)
    wanted = {}
    for header in _ACLS:
        listed = [each.strip() for each in there.get(header.lower(), "").split(",") if each.strip()]
        changed = change(listed)
        if changed != listed:
            wanted[header] = ",".join(changed)
    return wanted


def _set(store: objects.ObjectStore, name: str, wanted: Mapping[str, str], steps: _Steps) -> None:
    if wanted:
        to = "; ".join(_shown(wanted))
        steps.do(f"container {name}", to, lambda: store.set_container(name, wanted))


def _shown(headers: Mapping[str, str]) -> Sequence[str]:
    return [f"{name}: {value}" for name, value in headers.items()]
