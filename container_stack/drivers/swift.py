# SPDX-License-Identifier: Apache-2.0
"""Swift, by python-swiftclient, as an :class:`container_stack.storlets.objects.ObjectStore`.

swiftclient repeats what fails: connections that break, 401 once with a new token, 408, 429 and
5xx; what it can't repeat, since it came from a generator, ends with ServiceUnavailable.
"""

import contextlib
import datetime
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from container_stack import exceptions
from container_stack.drivers import (
    swift_body,
    swift_connections,
    swift_errors,
    swift_login,
    swift_manifest,
)
from container_stack.storlets import objects

#: Bytes of a piece that is read.
PIECE = 256 * 1024
#: Objects that are listed at once; Swift's own limit.
PAGE = 10_000
_META = "x-object-meta-"
_GET_MANIFEST, _PUT_MANIFEST = "multipart-manifest=get", "multipart-manifest=put"

Credentials = swift_login.Credentials


class Swift(objects.ObjectStore):
    """An account. Threads may share it.

    Nobody is asked before the first request.

    :param account: another than the user's own.
    :raises InvalidRequest: something is missing to log in with.
    """

    def __init__(self, credentials: Credentials, account: str = "", session: Any = None) -> None:
        self._credentials = credentials
        self._session = session or credentials.session()
        self._connections = swift_connections.Connections(credentials, self._session)
        self._account = account
        self._url = ""

    def __repr__(self) -> str:
        return f"Swift({self._account or self._credentials!r})"

    @property
    def account(self) -> str:
        if not self._account:
            self._account = urllib.parse.unquote(self.url.rpartition("/")[2])
        return self._account

    @property
    def url(self) -> str:
        """The account's URL."""
        if not self._url:
            with swift_errors.translated("the login"):
                own = self._session.get_endpoint(
                    service_type="object-store",
                    interface=self._credentials.interface,
                    region_name=self._credentials.region or None,
                )
            if not own:
                raise exceptions.HostNotReady("The service catalogue has no object-store.")
            base, _slash, name = own.rstrip("/").rpartition("/")
            named = urllib.parse.quote(self._account) if self._account else name
            self._url = f"{base}/{named}"
        return self._url

    def to(self, account: str) -> "Swift":
        """Return another account, as this user sees it; the login is shared.

        :raises InvalidRequest: it can't be an account's name.
        """
        objects.check_name(account)
        return Swift(self._credentials, account, self._session)

    # Objects -------------------------------------------------------------------------------

    def head(self, container: str, name: str) -> objects.Object:
        objects.check_name(container, name)
        with self._request("HEAD", f"{container}/{name}") as swift:
            headers = swift.head_object(container, name)
        return objects.Object(
            container,
            name,
            int(headers.get("content-length", 0)),
            # A dynamic large object's is of parts that may change every moment.
            "" if "x-object-manifest" in headers else headers.get("etag", "").strip('"'),
            float(headers.get("x-timestamp", 0)),
            {
                key.removeprefix(_META): value
                for key, value in headers.items()
                if key.startswith(_META)
            },
            headers.get("content-type", ""),
            _is_segmented(headers),
        )

    def list(self, container: str, prefix: str = "") -> Iterator[objects.Object]:
        objects.check_name(container)
        # At once, so that what stands against it is told at once.
        return self._pages(container, prefix, self._page(container, prefix, ""))

    def read(
        self,
        container: str,
        name: str,
        start: int = 0,
        length: int | None = None,
        *,
        etag: str = "",
    ) -> Iterator[bytes]:
        objects.check_name(container, name)
        if start < 0 or (length is not None and length <= 0):
            raise exceptions.InvalidRequest(f"{length} bytes from {start} on are no range.")
        headers = {"If-Match": etag} if etag else {}
        if start or length is not None:
            headers["Range"] = f"bytes={start}-{'' if length is None else start + length - 1}"
        with contextlib.ExitStack() as opening:
            body = self._open(opening, container, name, headers=headers)
            opened = opening.pop_all()
        return _pieces(opened, body)

    def segments(self, container: str, name: str) -> Sequence[objects.Segment]:
        objects.check_name(container, name)
        with contextlib.ExitStack() as opened:
            # Not even begun to be read if it is no manifest, but perhaps gigabytes.
            body = self._open(opened, container, name, query_string=_GET_MANIFEST)
            return swift_manifest.load(f"{container}/{name}", body)

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
        objects.check_name(container, name)
        headers = _metadata(metadata)
        if new:
            headers["If-None-Match"] = "*"
        if isinstance(data, bytes) and size is None:
            size = len(data)
        with self._request("PUT", f"{container}/{name}", exceptions.AlreadyExists) as swift:
            body = swift_body.make(data, size)
            if size == 0:
                # Nobody would read it, and see that there is something after all.
                body.read(1)
            stored: str = swift.put_object(
                container,
                name,
                body,
                content_length=size,
                etag=etag or None,
                content_type=content_type,
                headers=headers,
            )
        return stored

    def write_manifest(
        self,
        container: str,
        name: str,
        segments: Sequence[objects.Segment],
        *,
        metadata: Mapping[str, str] | None = None,
        content_type: str = "application/octet-stream",
    ) -> None:
        objects.check_name(container, name)
        with self._request("PUT", f"the manifest of {container}/{name}") as swift:
            swift.put_object(
                container,
                name,
                swift_manifest.dump(segments),
                content_type=content_type,
                headers=_metadata(metadata),
                query_string=_PUT_MANIFEST,
            )

    def set_metadata(self, container: str, name: str, metadata: Mapping[str, str]) -> None:
        objects.check_name(container, name)
        with self._request("POST", f"{container}/{name}") as swift:
            swift.post_object(container, name, _metadata(metadata))

    def remove(self, container: str, name: str) -> None:
        # Swift's own way, ?multipart-manifest=delete, answers 200 whatever fails.
        try:
            segmented = self.head(container, name).segmented
        except exceptions.NotFound:
            self.container(container)
            return
        segments = self.segments(container, name) if segmented else ()
        self._delete(container, name)
        for each in segments:
            self._delete(each.container, each.name)

    # Containers and the account ------------------------------------------------------------

    def container(self, name: str) -> Mapping[str, str]:
        objects.check_name(name)
        with self._request("HEAD", name) as swift:
            return dict(swift.head_container(name))

    def set_container(self, name: str, headers: Mapping[str, str]) -> None:
        objects.check_name(name)
        with self._request("PUT", name) as swift:
            swift.put_container(name, dict(headers))

    def account_headers(self) -> Mapping[str, str]:
        with self._request("HEAD", f"account {self.account}") as swift:
            return dict(swift.head_account())

    def set_account(self, headers: Mapping[str, str]) -> None:
        with self._request("POST", f"account {self.account}") as swift:
            swift.post_account(dict(headers))

    # Requests ------------------------------------------------------------------------------

    def _request(
        self,
        verb: str,
        what: str,
        conflict: type[exceptions.ContainerStackError] = exceptions.Busy,
    ) -> contextlib.AbstractContextManager[Any]:
        return self._connections.request(f"{verb} {what}", self.url, conflict)

    def _open(
        self, opened: contextlib.ExitStack, container: str, name: str, **request: Any
    ) -> Iterator[bytes]:
        """Begin to read; the stack holds all that must be given back."""
        swift = opened.enter_context(self._request("GET", f"{container}/{name}"))
        headers, body = swift.get_object(container, name, resp_chunk_size=PIECE, **request)
        opened.callback(body.close)
        if "query_string" in request and not _is_segmented(headers):
            raise exceptions.InvalidRequest(f"{container}/{name} isn't segmented.")
        if "Range" in request.get("headers", ()) and "content-range" not in headers:
            raise exceptions.ServiceUnavailable("Something between us and Swift drops ranges.")
        return body  # type: ignore[no-any-return]

    def _delete(self, container: str, name: str) -> None:
        with (
            contextlib.suppress(exceptions.NotFound),
            self._request("DELETE", f"{container}/{name}") as swift,
        ):
            swift.delete_object(container, name)

    def _page(self, container: str, prefix: str, marker: str) -> Any:
        with self._request("GET", container) as swift:
            return swift.get_container(container, prefix=prefix, marker=marker, limit=PAGE)[1]

    def _pages(self, container: str, prefix: str, page: Any) -> Iterator[objects.Object]:
        while page:
            for entry in page:
                yield objects.Object(
                    container,
                    entry["name"],
                    entry["bytes"],
                    entry.get("slo_etag", entry["hash"]).strip('"'),
                    datetime.datetime.fromisoformat(entry["last_modified"] + "+00:00").timestamp(),
                    content_type=entry["content_type"],
                )
            page = self._page(container, prefix, page[-1]["name"])


def _pieces(opened: contextlib.ExitStack, body: Iterator[bytes]) -> Iterator[bytes]:
    with opened:
        yield from body


def _is_segmented(headers: Mapping[str, str]) -> bool:
    return headers.get("x-static-large-object", "").lower() == "true"


def _metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    # swiftclient, here and in others' hands, takes escapes out of what it gets.
    return {
        _META + key: value.replace("%", "%25")
        for key, value in objects.check_metadata(metadata or {}).items()
    }
