# SPDX-License-Identifier: Apache-2.0
"""A small client of Glance's REST API that waits for what it asked for."""

import hashlib
import http.client
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import requests

from . import process, resources

_BINARY = {"Content-Type": "application/octet-stream"}


class Client:
    """One project's view of Glance; threads may share it.

    :param url: of the API.
    :param api: whose log is shown when something doesn't come about.
    """

    def __init__(self, url: str, project: str, api: process.Process) -> None:
        self._url = url
        self._api = api
        self._identity = {
            "X-Identity-Status": "Confirmed",
            "X-User-Id": f"{project}-user",
            "X-Project-Id": project,
            "X-Roles": "admin,member,reader",
        }

    def call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        data: bytes | Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Return the answer.

        :raises RefusedError: the answer is an error.
        """
        answer = requests.request(
            method,
            f"{self._url}/v2/{path}",
            json=body,
            data=data,
            headers={**self._identity, **(headers or {})},
            timeout=120,
        )
        if not answer.ok:
            raise resources.RefusedError(answer.status_code, answer.text)
        return answer

    # Images ----------------------------------------------------------------------------------

    def create(self, **properties: Any) -> str:
        """Make an image without data and return its id."""
        wanted = {"name": "boat", "disk_format": "raw", "container_format": "bare", **properties}
        return str(self.call("POST", "images", body=wanted).json()["id"])

    def show(self, image: str) -> dict[str, Any]:
        """Return what Glance knows of an image."""
        found: dict[str, Any] = self.call("GET", f"images/{image}").json()
        return found

    def delete(self, image: str) -> None:
        """Delete an image."""
        self.call("DELETE", f"images/{image}")

    # Data ------------------------------------------------------------------------------------

    def upload(self, image: str, data: bytes | Iterator[bytes], store: str = "") -> None:
        """Upload an image's data; from an iterator without telling its size.

        :param store: empty: the default one.
        """
        wanted = {"X-Image-Meta-Store": store} if store else {}
        self.call("PUT", f"images/{image}/file", data=data, headers={**_BINARY, **wanted})

    def begin_upload(self, image: str, size: int | None, store: str) -> "Upload":
        """Announce an image's data, to be sent later, or not at all.

        :param size: None: don't tell.
        """
        connection = http.client.HTTPConnection(self._url.partition("://")[2], timeout=30)
        connection.putrequest("PUT", f"/v2/images/{image}/file")
        length = {"Transfer-Encoding": "chunked"} if size is None else {"Content-Length": str(size)}
        headers = {**self._identity, **_BINARY, "X-Image-Meta-Store": store, **length}
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        return Upload(connection, chunked=size is None)

    def download(self, image: str, byte_range: str = "") -> bytes:
        """Return an image's data.

        :param byte_range: as HTTP writes it, such as ``5-9``; empty: all.
        """
        headers = {"Range": f"bytes={byte_range}"} if byte_range else {}
        answer = self.call("GET", f"images/{image}/file", headers=headers)
        assert answer.status_code == (206 if byte_range else 200), answer.status_code
        return answer.content

    # Stores ----------------------------------------------------------------------------------

    def stores(self) -> list[str]:
        """Return the names of the stores."""
        return [each["id"] for each in self.call("GET", "info/stores").json()["stores"]]

    def stage(self, image: str, data: bytes) -> None:
        """Upload data that go to stores later."""
        self.call("PUT", f"images/{image}/stage", data=data, headers=_BINARY)

    def import_to(self, image: str, method: str, *stores: str) -> None:
        """Have Glance take an image to stores by itself, and wait until it is there."""
        body = {"method": {"name": method}, "stores": list(stores)}
        self.call("POST", f"images/{image}/import", body=body)

        def done() -> bool:
            tasks = self.call("GET", f"images/{image}/tasks").json()["tasks"]
            assert not [each for each in tasks if each["status"] == "failure"], tasks
            return all(each["status"] == "success" for each in tasks)

        self.wait(f"image {image} in {stores}", done)
        found = self.show(image)
        assert found["status"] == "active"
        assert set(stores) <= set(found["stores"].split(",")), found

    def delete_from(self, store: str, image: str) -> None:
        """Delete an image's data in one of its stores."""
        self.call("DELETE", f"stores/{store}/{image}")

    def wait(
        self, what: str, probe: Callable[[], process.Found | None], timeout: float = 30.0
    ) -> process.Found:
        """Return the first true answer of ``probe``, or fail with Glance's last words."""
        return process.wait_for(what, probe, timeout=timeout, processes=[self._api])


class Upload:
    """An upload under way."""

    def __init__(self, connection: http.client.HTTPConnection, *, chunked: bool) -> None:
        self._connection = connection
        self._chunked = chunked

    def send(self, data: bytes) -> None:
        """Send the next bytes."""
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self._connection.send(data)

    def break_off(self) -> None:
        """Close the connection, whatever was announced."""
        self._connection.close()


def digests(data: bytes) -> dict[str, str]:
    """Return what Glance must say of these data."""
    return {
        "checksum": hashlib.md5(data).hexdigest(),
        "os_hash_algo": "sha512",
        "os_hash_value": hashlib.sha512(data).hexdigest(),
    }
