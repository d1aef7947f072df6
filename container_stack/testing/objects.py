# SPDX-License-Identifier: Apache-2.0
"""A Swift in memory: several accounts, users with what ACLs give them, and errors on demand.

It does what Swift 2.38 with tempauth does as far as :mod:`.object_contract` asks, and both run
that suite. An account's administrators may do all in it; everybody else needs a container's read
or write ACL, and can neither change containers nor see the account's headers.
"""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

from container_stack import exceptions
from container_stack.storlets import objects
from container_stack.testing import object_cloud

#: Bytes of a piece that is read.
PIECE = 64 * 1024
Fault = object_cloud.Fault


class MemoryObjects(objects.ObjectStore):
    """An account as one user sees it.

    :param user: as ACLs name it: "305f5f3d:manager". Empty is the operator, who may do anything.
    :param admin: the user may do anything in AUTH_ and the part before the colon.
    :param cloud: what is shared with other accounts; a new one if not given.
    """

    def __init__(
        self,
        account: str = "AUTH_test",
        user: str = "",
        *,
        admin: bool = True,
        cloud: object_cloud.Cloud | None = None,
    ) -> None:
        self.cloud = cloud or object_cloud.Cloud()
        self.user = user
        self._account = account
        self._admin = admin

    @property
    def account(self) -> str:
        return self._account

    def to(
        self, account: str, user: str | None = None, *, admin: bool | None = None
    ) -> "MemoryObjects":
        """Return another account of this cloud, as seen by the same or another user."""
        return MemoryObjects(
            account,
            self.user if user is None else user,
            admin=self._admin if admin is None else admin,
            cloud=self.cloud,
        )

    @property
    def faults(self) -> list[Fault]:
        """What goes wrong; add to it."""
        return self.cloud.faults

    # Objects -------------------------------------------------------------------------------

    def head(self, container: str, name: str) -> objects.Object:
        with self._operation("head", container, name):
            return _describe(container, name, self._find(container, name))

    def list(self, container: str, prefix: str = "") -> Iterator[objects.Object]:
        with self._operation("list", container):
            found = self._container(container, object_cloud.READ).objects
            names = [each for each in sorted(found, key=str.encode) if each.startswith(prefix)]
            listed = [_describe(container, each, found[each]) for each in names]
        return (dataclasses.replace(each, metadata={}, segmented=False) for each in listed)

    def read(
        self,
        container: str,
        name: str,
        start: int = 0,
        length: int | None = None,
        *,
        etag: str = "",
    ) -> Iterator[bytes]:
        if start < 0 or (length is not None and length <= 0):
            raise exceptions.InvalidRequest(f"{length} bytes from {start} on are no range.")
        with self._operation("read", container, name) as fault:
            stored = self._find(container, name)
            if etag and stored.etag != etag:
                raise exceptions.Busy(f"{container}/{name} was changed meanwhile.")
            data = self._data(stored)
        if start and start >= len(data):
            raise exceptions.InvalidRequest(f"{container}/{name} ends before {start}.")
        end = len(data) if length is None else min(len(data), start + length)
        return _pieces(data[start:end], fault)

    def segments(self, container: str, name: str) -> Sequence[objects.Segment]:
        with self._operation("segments", container, name):
            stored = self._find(container, name)
            if stored.segments is None:
                raise exceptions.InvalidRequest(f"{container}/{name} isn't segmented.")
            return stored.segments

    def write(
        self,
        container: str,
        name: str,
        data: bytes | Iterable[bytes],
        *,
        size: int | None = None,
        etag: str = "",
        metadata: Mapping[str, str] | None = None,
        content_type: str = "application/octet-stream",
        new: bool = False,
    ) -> str:
        kept = objects.check_metadata(metadata or {})
        whole = data if isinstance(data, bytes) else b"".join(data)
        if size is not None and len(whole) != size:
            raise exceptions.InvalidRequest(f"{len(whole)} bytes came instead of {size}.")
        md5 = object_cloud.md5(whole)
        if etag and etag != md5:
            raise exceptions.InvalidRequest(f"These bytes have the MD5 {md5}, not {etag}.")
        with self._operation("write", container, name):
            there = self._container(container, object_cloud.WRITE)
            if new and name in there.objects:
                raise exceptions.AlreadyExists(f"{container}/{name} is there already.")
            object_cloud.check_quota(there, container, len(whole))
            now = self.cloud.now()
            there.objects[name] = object_cloud.Stored(md5, now, kept, content_type, whole)
        return md5

    def write_manifest(
        self,
        container: str,
        name: str,
        segments: Sequence[objects.Segment],
        *,
        metadata: Mapping[str, str] | None = None,
        content_type: str = "application/octet-stream",
    ) -> None:
        kept = objects.check_metadata(metadata or {})
        if not 0 < len(segments) <= objects.MAX_SEGMENTS:
            raise exceptions.InvalidRequest(
                f"An object has 1 to {objects.MAX_SEGMENTS} segments, not {len(segments)}."
            )
        etag = object_cloud.md5("".join(each.etag for each in segments).encode())
        with self._operation("write_manifest", container, name):
            there = self._container(container, object_cloud.WRITE)
            for each in segments:
                self._check_segment(each)
            there.objects[name] = object_cloud.Stored(
                etag, self.cloud.now(), kept, content_type, segments=tuple(segments)
            )

    def set_metadata(self, container: str, name: str, metadata: Mapping[str, str]) -> None:
        kept = objects.check_metadata(metadata)
        with self._operation("set_metadata", container, name):
            stored = self._find(container, name, object_cloud.WRITE)
            stored.metadata, stored.modified = kept, self.cloud.now()

    def remove(self, container: str, name: str) -> None:
        with self._operation("remove", container, name):
            self._container(container, object_cloud.READ)
            there = self._container(container, object_cloud.WRITE)
            stored = there.objects.pop(name, None)
            for each in (stored.segments or ()) if stored else ():
                within = self._container(each.container, object_cloud.WRITE)
                within.objects.pop(each.name, None)

    # Containers and the account ------------------------------------------------------------

    def container(self, name: str) -> Mapping[str, str]:
        with self._operation("container", name):
            there = self._container(name, object_cloud.READ)
            return {
                **{key: value for key, value in there.headers.items() if self._shown(key)},
                "x-container-object-count": str(len(there.objects)),
                "x-container-bytes-used": str(there.used),
            }

    def set_container(self, name: str, headers: Mapping[str, str]) -> None:
        with self._operation("set_container", name):
            self._check_owner(f"container {name}")
            containers = self._content.containers
            there = containers.setdefault(name, object_cloud.Container())
            object_cloud.set_headers(there.headers, headers)

    def account_headers(self) -> Mapping[str, str]:
        with self._operation("account_headers"):
            self._check_owner(f"account {self.account}")
            count = str(len(self._content.containers))
            return {**self._content.headers, "x-account-container-count": count}

    def set_account(self, headers: Mapping[str, str]) -> None:
        with self._operation("set_account"):
            self._check_owner(f"account {self.account}")
            object_cloud.set_headers(self._content.headers, headers)

    # What is behind ------------------------------------------------------------------------

    @property
    def _content(self) -> object_cloud.Account:
        return self.cloud.account(self.account)

    @property
    def _owner(self) -> bool:
        own = f"AUTH_{self.user.partition(':')[0]}"
        return not self.user or (self._admin and own == self.account)

    def _shown(self, header: str) -> bool:
        return self._owner or header not in (object_cloud.READ, object_cloud.WRITE)

    @contextlib.contextmanager
    def _operation(
        self, operation: str, container: str | None = None, name: str | None = None
    ) -> Iterator[Fault | None]:
        if container is not None:
            objects.check_name(container, name)
        request = object_cloud.Request(
            operation, self.user, self.account, container or "", name or ""
        )
        with self.cloud.lock:
            fault = self.cloud.note(request)
            if fault and fault.after is None and not fault.done:
                raise fault.error
            yield fault
            if fault and fault.done:
                raise fault.error

    def _check_owner(self, what: str) -> None:
        if not self._owner:
            raise exceptions.AccessDenied(f"{self.user} may not do that with {what}.")

    def _container(self, name: str, way: str) -> object_cloud.Container:
        there = self._content.containers.get(name)
        if not self._owner and (there is None or not there.admits(self.user, way)):
            raise exceptions.AccessDenied(f"{self.user} may not do that in container {name}.")
        if there is None:
            raise exceptions.NotFound(f"Container {name} doesn't exist.")
        return there

    def _find(self, container: str, name: str, way: str = object_cloud.READ) -> object_cloud.Stored:
        stored = self._container(container, way).objects.get(name)
        if stored is None:
            raise exceptions.NotFound(f"{container}/{name} doesn't exist.")
        return stored

    def _check_segment(self, segment: objects.Segment) -> None:
        try:
            stored = self._find(segment.container, segment.name)
        except exceptions.ContainerStackError as exc:
            raise exceptions.InvalidRequest(f"Segment {segment.name} can't be read.") from exc
        if (stored.etag, stored.size) != (segment.etag, segment.size):
            raise exceptions.InvalidRequest(f"Segment {segment.name} is another.")
        if stored.size < self.cloud.min_segment:
            raise exceptions.InvalidRequest(f"Segment {segment.name} is too small.")

    def _data(self, stored: object_cloud.Stored) -> bytes:
        if stored.segments is None:
            return stored.data
        try:
            found = [(each, self._find(each.container, each.name)) for each in stored.segments]
        except exceptions.ContainerStackError as exc:
            raise exceptions.Busy("Segments are gone, or closed to this user.") from exc
        if any(segment.etag != there.etag for segment, there in found):
            raise exceptions.Busy("Segments were changed.")
        return b"".join(there.data for _segment, there in found)


def _describe(container: str, name: str, stored: object_cloud.Stored) -> objects.Object:
    return objects.Object(
        container,
        name,
        stored.size,
        stored.etag,
        stored.modified,
        dict(stored.metadata),
        stored.content_type,
        stored.segments is not None,
    )


def _pieces(data: bytes, fault: Fault | None) -> Iterator[bytes]:
    allowed = len(data) if fault is None or fault.after is None else fault.after
    for start in range(0, min(len(data), allowed), PIECE):
        yield data[start : min(start + PIECE, allowed)]
    if fault is not None and fault.after is not None:
        raise fault.error
