# SPDX-License-Identifier: Apache-2.0
"""What requests to a Datera EDF array are for: get, put, list, wait."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from container_stack import exceptions
from container_stack.imagestore import edf_http, edf_json
from container_stack.imagestore import edf_model as model

T = TypeVar("T")

#: Entries asked for at a time; the array gives 1000 at most.
PAGE = 500
#: Seconds between looks at something that the array works at: the first, and the longest.
FIRST_LOOK, LAST_LOOK = 0.05, 2.0


class Calls:
    """An array and a tenant of it, as paths to read and write."""

    def __init__(self, endpoint: model.Endpoint) -> None:
        self.connection = edf_http.Connection(endpoint)
        self.tenant = endpoint.tenant_path
        self._timeout = endpoint.operation_timeout
        self._software: tuple[edf_http.Key, tuple[int, ...]] | None = None

    def get(self, path: str) -> Any:
        """Return the data of a path.

        :raises NotFound: there is nothing.
        """
        return self.connection.request(edf_http.Request("GET", path)).data

    def put(self, path: str, body: Mapping[str, Any], *, secret: bool = False) -> None:
        """Change what is at a path.

        :param secret: the body holds one.
        """
        self.connection.request(edf_http.Request("PUT", path, body, secret=secret))

    def post(
        self,
        path: str,
        body: Mapping[str, Any],
        find: Callable[[], Any] = lambda: None,
        *,
        tenant: str = "",
    ) -> Any:
        """Make something below a path and return its data.

        :param find: returns the data of what an earlier try of this call made, or None.
        :raises AlreadyExists: there is such a thing, of somebody else.
        """

        def found() -> edf_http.Answer | None:
            data = find()
            return None if data is None else edf_http.Answer(data)

        request = edf_http.Request("POST", path, body, tenant=tenant)
        return self.connection.request(request, found).data

    def delete(self, path: str) -> bool:
        """Delete what is at a path; return whether the array found anything."""
        try:
            self.connection.request(edf_http.Request("DELETE", path))
        except exceptions.NotFound:
            return False
        return True

    def pages(self, path: str, params: Mapping[str, str] | None = None) -> Iterator[Any]:
        """Yield the entries of a list, each once.

        An array may call an empty list NotFound, too (dfs_sdk, base.py).

        A page that holds less than its limit is the last: what arrays before 3.3 call the total
        counts also what a filter left out (dfs_sdk, connection.py).
        """
        seen: set[str] = set()
        while True:
            window = {**(params or {}), "limit": str(PAGE), "offset": str(len(seen))}
            answer = self.connection.request(edf_http.Request("GET", path, params=window))
            entries, limit = edf_json.page(answer.data, answer.metadata, PAGE)
            fresh = {key: entry for key, entry in entries.items() if key not in seen}
            yield from fresh.values()
            seen.update(fresh)
            if not fresh or len(entries) < limit:
                return

    def wait(self, what: str, look: Callable[[], T], good: Callable[[T], bool]) -> T:
        """Look again and again until it is good; return the last look.

        :raises ArrayUnavailable: it takes longer than an operation may.
        """
        pause = FIRST_LOOK
        deadline = time.monotonic() + self._timeout
        while not good(found := look()):
            if time.monotonic() + pause > deadline:
                raise exceptions.ArrayUnavailable(f"{what} takes more than {self._timeout:g} s.")
            time.sleep(pause)
            pause = min(pause * 2, LAST_LOOK)
        return found

    def software(self) -> tuple[int, ...]:
        """Return the version of the array's software, as (3, 3, 0, 1).

        It is asked for after each login: arrays get updates.
        """
        key = self.connection.key()
        known = self._software
        if known is None or known[0] is not key:
            system = edf_json.system(self.get("/system"))
            known = (key, edf_json.version_numbers(system.sw_version))
            self._software = known
        return known[1]
