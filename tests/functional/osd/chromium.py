# SPDX-License-Identifier: Apache-2.0
"""A real browser without a screen, steered by its own protocol over two pipes."""

import base64
import contextlib
import itertools
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PATIENCE = 120.0
_LOUD = (
    "Log.entryAdded",
    "Page.javascriptDialogOpening",
    "Runtime.consoleAPICalled",
    "Runtime.exceptionThrown",
)


class Page:
    """The only page of a browser. What scripts and the browser say aloud is in ``said``."""

    def __init__(self, send: int, receive: int) -> None:
        self._send = send
        self._receive = receive
        self._rest = b""
        self._numbers = itertools.count(1)
        self._session = ""
        self.said: list[str] = []
        (target,) = (
            each["targetId"]
            for each in self.call("Target.getTargets")["targetInfos"]
            if each["type"] == "page"
        )
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """Have the browser do something, and return what it says of it."""
        number = next(self._numbers)
        asked = {"id": number, "method": method, "params": parameters}
        if self._session:
            asked["sessionId"] = self._session
        os.write(self._send, json.dumps(asked).encode() + b"\0")
        while (answer := self._next()).get("id") != number:
            self._note(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, url: str) -> None:
        """Go somewhere, and wait until it is there; what was said before is forgotten."""
        self.said.clear()
        self.call("Page.navigate", url=url)
        self.until("location.protocol === 'https:' && document.readyState === 'complete'")

    def run(self, script: str) -> Any:
        """Return the value of an expression; the page's policy hinders none."""
        found = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def until(self, script: str) -> Any:
        """Wait until an expression is true, and return its value."""
        end = time.monotonic() + PATIENCE
        while not (found := self.run(script)):
            assert time.monotonic() < end, (script, self.run("document.body.innerText"), self.said)
            time.sleep(0.05)
        return found

    def click(self, selector: str) -> None:
        """Click where an element is, as a mouse does."""
        self.run(f"document.querySelector({json.dumps(selector)}).scrollIntoView()")
        box = self.run(
            f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])"
            f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent",
                type=kind, x=box[0], y=box[1], button="left", clickCount=1,
            )  # fmt: skip

    def type(self, selector: str, text: str) -> None:
        """Write something into a field, in place of what is there."""
        self.run(
            f"(field => {{ field.focus(); field.select(); }})"
            f"(document.querySelector({json.dumps(selector)}))"
        )
        self.call("Input.insertText", text=text)

    def screenshot(self) -> bytes:
        """Return what is seen, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def _next(self) -> Any:
        while b"\0" not in self._rest:
            assert select.select([self._receive], [], [], PATIENCE)[0], "The browser is silent."
            piece = os.read(self._receive, 2**20)
            assert piece, "The browser has ended."
            self._rest += piece
        text, _, self._rest = self._rest.partition(b"\0")
        return json.loads(text)

    def _note(self, event: dict[str, Any]) -> None:
        if event.get("method") in _LOUD:
            self.said.append(json.dumps(event["params"]))


@contextlib.contextmanager
def page(directory: Path, width: int = 900, height: int = 840) -> Iterator[Page]:
    """Lend a page of a new browser, which trusts any certificate and keeps all in a directory."""
    to_browser, from_browser = os.pipe(), os.pipe()

    def place() -> None:
        # Where the browser expects its pipes; both may have these numbers here.
        theirs = (os.dup(to_browser[0]), os.dup(from_browser[1]))
        spare = tuple(os.dup(each) for each in theirs)
        os.dup2(spare[0], 3)
        os.dup2(spare[1], 4)

    process = subprocess.Popen(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         "--remote-debugging-pipe", "--ignore-certificate-errors", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--no-proxy-server",
         "--disable-crash-reporter", "--lang=en", "--disable-lcd-text",
         f"--user-data-dir={directory}/cstest-browser", "about:blank"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(directory), "TZ": "UTC"},
        preexec_fn=place,
        close_fds=False,
        start_new_session=True,
    )  # fmt: skip
    os.close(to_browser[0])
    os.close(from_browser[1])
    try:
        made = Page(to_browser[1], from_browser[0])
        made.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        yield made
    finally:
        os.close(to_browser[1])
        os.close(from_browser[0])
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(PATIENCE)
