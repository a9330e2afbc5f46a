"""A real browser for the tests and the pictures: Debian's Chromium, without a window.

It is driven by the DevTools protocol over two pipes (``--remote-debugging-pipe``), so it takes no
package: a library that brings its own browser weighs 150 MB, and no port is open while it runs.
A page waits for conditions, in the page itself, and never sleeps.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PATIENCE = 30.0  # seconds
NOT_FOUND = "no browser: install Chromium (Debian: apt-get install chromium)"
_PLACES = ("/usr/lib/chromium/chromium", "chromium", "chromium-browser", "google-chrome")
_KEYS = {"Tab": 9, "Enter": 13, " ": 32, "Escape": 27}
#: Starts a program with two pipes as 3 and 4, where the protocol wants them.
_EXEC = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(each), fcntl.F_DUPFD, 10) for each in sys.argv[1:3]]
for place, pipe in enumerate(pipes, 3):
    os.dup2(pipe, place)
os.execv(sys.argv[3], sys.argv[3:])
"""


class BrowserError(Exception):
    """The browser is missing, has ended, or says that something is wrong."""


def find() -> str:
    """The browser's program.  Raises `BrowserError`."""
    for place in _PLACES:
        if (found := shutil.which(place)) is not None:
            return found
    raise BrowserError(NOT_FOUND)


class Page:
    """A tab.  `errors` has all that its console and its network complained about."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session
        self.errors: list[str] = []
        self._scripts = True
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command, and return its result.  Raises `BrowserError`."""
        return self._browser.call(method, parameters, self._session)

    def see(self, method: str, event: dict[str, Any]) -> None:
        """Keep what is an error."""
        if method == "Runtime.exceptionThrown":
            self.errors.append(str(event["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and event["type"] in ("error", "assert"):
            self.errors.append(str(event["args"]))
        elif method == "Log.entryAdded" and event["entry"]["level"] in ("error", "warning"):
            self.errors.append(f"{event['entry']['text']} {event['entry'].get('url', '')}")

    def goto(self, url: str) -> None:
        """Load an address, and wait until the page is there."""
        found = self.call("Page.navigate", url=url)
        if found.get("errorText"):
            raise BrowserError(f"{url}: {found['errorText']}")
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def js(self, expression: str) -> Any:
        """Return the value of an expression in the page; of a promise, what it resolves to."""
        found = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in found:
            raise BrowserError(f"{expression}: {found['exceptionDetails']}")
        return found["result"].get("value")

    def scripts(self, allowed: bool) -> None:
        """Allow the page's own scripts, or forbid them."""
        self._scripts = allowed
        self.call("Emulation.setScriptExecutionDisabled", value=not allowed)

    def wait(self, condition: str) -> Any:
        """Wait until an expression is true in the page, also across a change of the page."""
        if not self._scripts:  # then no timer runs in the page
            return self._wait_outside(condition)
        watch = (
            f"new Promise((done) => {{ const end = Date.now() + {PATIENCE * 1000};"
            f" const look = () => {{ let found; try {{ found = ({condition}); }} catch {{}}"
            " if (found) done(found); else if (Date.now() > end) done(null);"
            " else setTimeout(look, 10); }; look(); })"
        )
        for _ in range(20):
            try:
                found = self.js(watch)
            except BrowserError as error:
                if "context" in str(error) or "navigated" in str(error):
                    continue  # the page has changed meanwhile
                raise
            if found:
                return found
            break
        text = self.js("document.body.innerText")
        raise BrowserError(f"this did not come true: {condition}\n{self.errors}\n{text[:3000]}")

    def _wait_outside(self, condition: str) -> Any:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            with contextlib.suppress(BrowserError):  # the page is changing
                if found := self.js(condition):
                    return found
        raise BrowserError(f"this did not come true: {condition}")

    def text(self, selector: str) -> str:
        """Return the text of an element that is there, or will be."""
        place = json.dumps(selector)
        self.wait(f"document.querySelector({place}) !== null")
        return str(self.js(f"document.querySelector({place}).textContent"))

    def click(self, selector: str) -> None:
        """Click on the middle of an element, or of its first line, as a mouse does."""
        place = json.dumps(selector)
        self.wait(f"document.querySelector({place}) !== null")
        if self._scripts:  # a click before the first frame of a page is lost
            self.js(
                "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
            )
        else:  # no function is called in the page then, but a picture needs a frame
            self.call("Page.captureScreenshot", format="jpeg", quality=1)
        box = self.js(
            f"(() => {{ const e = document.querySelector({place});"
            " e.scrollIntoView({block: 'center'}); const b = e.getClientRects()[0];"
            " return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent",
                type=kind, x=box[0], y=box[1], button="left", clickCount=1,
            )  # fmt: skip

    def press(self, key: str) -> None:
        """Press a key, and let it go."""
        code, text = _KEYS[key], {"Enter": "\r", " ": " "}.get(key, "")
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind, key=key, code=key, windowsVirtualKeyCode=code,
                text=text if kind == "keyDown" else "",
            )  # fmt: skip

    def type(self, text: str) -> None:
        """Type a text where the focus is."""
        self.call("Input.insertText", text=text)

    def fill(self, selector: str, text: str) -> None:
        """Replace the text of a field."""
        place = json.dumps(selector)
        self.wait(f"document.querySelector({place}) !== null")
        self.js(
            f"(() => {{ const e = document.querySelector({place}); e.focus(); e.select(); }})()"
        )
        self.type(text)

    def size(self, width: int, height: int, scale: float = 1) -> None:
        """Give the page this many pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=scale, mobile=width < 600,
        )  # fmt: skip

    def scheme(self, name: str) -> None:
        """Prefer `light` or `dark`."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def picture(self) -> bytes:
        """Return what the page shows, as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])


class Browser:
    """A browser process."""

    def __init__(self, program: str, profile: Path) -> None:
        ours, theirs = os.pipe(), os.pipe()
        options = ["--headless=new", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu"]
        options += ["--disable-dev-shm-usage", "--hide-scrollbars", f"--user-data-dir={profile}"]
        options += ["--disable-background-networking", "--disable-component-update"]
        options += ["--no-sandbox"] if os.getuid() == 0 else []
        self._process = subprocess.Popen(
            [sys.executable, "-c", _EXEC, str(ours[0]), str(theirs[1]), program, *options],
            pass_fds=(ours[0], theirs[1]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(ours[0])
        os.close(theirs[1])
        self._to, self._from = os.fdopen(ours[1], "wb", 0), os.fdopen(theirs[0], "rb", 0)
        self._ids = itertools.count(1)
        self._writing = threading.Lock()
        self._answers: dict[int, queue.Queue[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def page(self) -> Page:
        """Open a tab."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        attach = {"targetId": target, "flatten": True}
        session = self.call("Target.attachToTarget", attach)["sessionId"]
        page = self._pages[session] = Page(self, session)
        return page

    def call(
        self, method: str, parameters: dict[str, Any], session: str | None = None
    ) -> dict[str, Any]:
        """Send a command, and return its result.  Raises `BrowserError`."""
        id, answer = next(self._ids), queue.Queue[dict[str, Any]](1)
        self._answers[id] = answer
        command = {"id": id, "method": method, "params": parameters}
        if session is not None:
            command["sessionId"] = session
        with self._writing:
            self._to.write(json.dumps(command).encode() + b"\0")
        try:
            found = answer.get(timeout=2 * PATIENCE)
        except queue.Empty:
            raise BrowserError(f"{method}: no answer") from None
        if "error" in found:
            raise BrowserError(f"{method}: {found['error']['message']}")
        result: dict[str, Any] = found["result"]
        return result

    def _read(self) -> None:
        rest = b""
        while True:
            some = self._from.read(1 << 20)
            *messages, rest = (rest + some).split(b"\0")
            for each in messages:
                self._take(json.loads(each))
            if not some:
                break
        for answer in list(self._answers.values()):
            answer.put({"error": {"message": "the browser has ended"}})

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._answers.pop(message["id"]).put(message)
        elif (page := self._pages.get(message.get("sessionId", ""))) is not None:
            page.see(message["method"], message["params"])

    def close(self) -> None:
        """End the browser and all that it has started."""
        with contextlib.suppress(BrowserError, OSError):
            self.call("Browser.close", {})
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(PATIENCE)
        self._to.close()
        self._from.close()


@contextlib.contextmanager
def opened() -> Iterator[Browser]:
    """Start a browser with an empty profile, and end it."""
    program = find()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(program, Path(profile))
        try:
            yield browser
        finally:
            browser.close()
