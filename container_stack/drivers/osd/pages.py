# SPDX-License-Identifier: Apache-2.0
"""The web page: files that hold nothing of anybody's, and who may ask for what it shows.

The page gets all its figures from the JSON routes. Its policy lets no script run but its own, and
its script puts what others named into texts only, never into markup.
"""

import importlib.resources
import re

import falcon

from container_stack.drivers.osd import answers

#: By name, below /page; the first is served at /, too.
TYPES = {
    "index.html": "text/html; charset=utf-8",
    "osd.css": "text/css; charset=utf-8",
    "osd.js": "text/javascript; charset=utf-8",
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
#: Paths over TCP: of the files, and of what the page only shows.
_FILES = re.compile(r"/|/cluster/(page/[a-z.]+)?")
_FIGURES = re.compile(
    r"/cluster/v1/(nodes|drivers|alerts|events|activity|drivers/[^/]+/volumes(/[^/]+/samples)?)"
)


class Files:
    """/ and /page/{name}"""

    def __init__(self) -> None:
        below = importlib.resources.files(__package__).joinpath("web")
        self._files = {name: below.joinpath(name).read_bytes() for name in TYPES}

    def on_get(
        self, request: falcon.Request, response: falcon.Response, name: str = "index.html"
    ) -> None:
        """Return a file."""
        if name not in self._files:
            answers.say(response, falcon.HTTP_404, "404 page not found")
            return
        response.set_headers(HEADERS)
        response.content_type = TYPES[name]
        response.data = self._files[name]


def routes() -> dict[str, object]:
    """Return resources by path."""
    files = Files()
    return {"/": files, "/page/{name}": files}


def is_public(method: str, path: str) -> bool:
    """Tell whether a request over TCP is for the page's files."""
    return method == "GET" and _FILES.fullmatch(path) is not None


def is_readable(method: str, path: str) -> bool:
    """Tell whether a request over TCP is for the page's files, or for what it shows."""
    return is_public(method, path) or (method == "GET" and _FIGURES.fullmatch(path) is not None)
