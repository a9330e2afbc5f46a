"""The page in a real browser, see `tests.browser`."""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import replay
from replay import Client, connect, register_activity, register_workflow
from tests import browser
from tests.browser import Browser, Page
from tests.support import drain
from tests.tools.pages import EVIL
from tests.tools.served import Served

pytestmark = pytest.mark.slow

#: The state of the first request without a response.
OPEN = "document.querySelector('a.row.open .state')?.textContent"


#: What was under way when a test ended its server, such as the request of a page's icon; and what
#: is asked of a foreign name, the icon of the refusal included.
_EXPECTED = re.compile(
    r"net::ERR_(CONNECTION_[A-Z]+|SOCKET_NOT_CONNECTED|EMPTY_RESPONSE)|http://evil\."
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A browser.  Without one these tests fail: they are never skipped."""
    with browser.opened() as found:
        yield found


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Page]:
    """A tab, in which nothing may go wrong."""
    page = chromium.page()
    page.size(1100, 800)
    yield page
    assert [each for each in page.errors if not _EXPECTED.search(each)] == []
    page.call("Page.close")


@pytest.fixture
def place(tmp_path: Path) -> str:
    """A database's URL.  The databases differ below the queries, which have tests of their own."""
    return f"sqlite:///{tmp_path / 'page.db'}"


@pytest.fixture
def client(place: str) -> Iterator[Client]:
    """A client whose workers run."""
    with connect(place) as client:
        yield client


@pytest.fixture
def page(client: Client) -> Iterator[Served]:
    """The page, which can write."""
    with Served(client, write=True) as served:
        yield served


def approve(ctx: replay.RunContext, name: str) -> str:
    """Wait for a signal."""
    answer = ctx.await_signal(1, timedelta(days=1))
    assert answer is not None
    return f"{name}: {answer.message}"


def nap(ctx: replay.RunContext, name: str) -> str:
    """Sleep a little."""
    ctx.sleep(timedelta(milliseconds=300))
    return "awake"


def count(ctx: replay.RunContext, most: int) -> str:
    """Make many events at once."""
    for n in range(most):
        ctx.emit_output("number", n)
    return "counted"


def echo(ctx: replay.RunContext, value: Any) -> Any:
    """Return the input."""
    if isinstance(value, dict) and "fail" in value:
        raise replay.Failed(value["fail"], detail=value)
    return value


def requested(client: Client, run: str, target: str) -> None:
    """Wait until a run has requested something."""
    for event in client.stream("shop"):
        if (event.key.run, event.key.target) == (run, target):
            return


def test_q3_start_filter_and_open_a_run(client: Client, page: Served, tab: Page) -> None:
    """Q3: from an empty log to a run's messages, with the mouse."""
    register_workflow(client, "shop", echo)
    tab.goto(page.server.url)
    assert "no runs like this" in tab.text("main")
    tab.click("#start summary")
    for name, value in {"namespace": "shop", "workflow": "echo", "run": "first"}.items():
        tab.fill(f"#start input[name={name}]", value)
    tab.fill("#start textarea", '{"cups": 2}')
    tab.click("#start button")
    tab.wait("document.querySelector('.ending')?.textContent.includes('cups')")
    client.run_workflow("shop", "echo", "second", {"fail": "no tea"})
    tab.goto(page.server.url)
    tab.wait("document.querySelector('#tab-failed b').textContent === '1'")
    tab.click("#tab-failed")
    tab.wait("document.querySelectorAll('#runs tr').length === 1")
    assert "no tea" in tab.text("#runs .error")
    tab.fill("#find", "shop/echo/first")
    tab.press("Enter")
    tab.wait("document.querySelector('h1').textContent === 'first'")
    tab.click("a.row.started")
    tab.wait("document.querySelector('#messages pre')?.textContent.includes('\"cups\": 2')")
    assert "event 1" in tab.text("#messages")
    assert tab.js("location.hash") == "#messages"
    tab.js("history.back()")
    tab.wait("document.querySelector('#messages pre') === null")


def test_q3_watch_an_activity_fail_and_recover(client: Client, page: Served, tab: Page) -> None:
    """Q3: the open page shows each attempt, and its button makes the next."""
    mended = threading.Event()

    def charge(ctx: replay.ActivityContext, backends: None, cents: int) -> str:
        if not mended.is_set():
            raise RuntimeError("the card terminal is off")
        return "paid"

    def order(ctx: replay.RunContext, cents: int) -> str:
        return ctx.exec_activity(charge, cents)

    slow = replay.Retry(first=timedelta(hours=1), longest=timedelta(hours=1))
    register_workflow(client, "shop", order)
    register_activity(client, "shop", charge, retry=slow)
    client.run_workflow("shop", "order", "one", 5)
    tab.goto(f"{page.server.url}run/shop/order/one")
    tab.wait(
        "document.querySelector('a.row.open .state')?.textContent.startsWith('attempt 2, again')"
    )
    assert "the card terminal is off" in tab.text("#waits pre")
    tab.click("#retry button")
    tab.wait(
        "document.querySelector('a.row.open .state')?.textContent.startsWith('attempt 3, again')"
    )
    assert "next attempt is due now" in tab.text(".note")
    mended.set()
    tab.click("#retry button")
    tab.wait("document.querySelector('.chip.completed') !== null")
    assert tab.text(".ending pre") == '"paid"'
    assert tab.js("document.querySelector('#waits')") is None


def test_q3_approve_by_signal(client: Client, page: Served, tab: Page) -> None:
    """Q3: with --write, from the page of a run that waits; what you type survives updates."""
    register_workflow(client, "shop", approve)
    client.run_workflow("shop", "approve", "one", "order 1")
    tab.goto(f"{page.server.url}run/shop/approve/one")
    tab.fill("#waits textarea", '"yes"')
    tab.click("#cancel summary")
    state = tab.text("#waits .state")
    tab.wait(f"document.querySelector('.facts').textContent !== {json.dumps(tab.text('.facts'))}")
    assert state
    assert tab.js("document.querySelector('#waits textarea').value") == '"yes"'
    assert tab.js("document.querySelector('#cancel').open") is True
    tab.click("#waits button")
    tab.wait("document.querySelector('.chip.completed') !== null")
    assert client.result("shop", "approve", "one") == "order 1: yes"


def test_q3_cancel(client: Client, page: Served, tab: Page) -> None:
    """Q3: with a reason, which the run's page then shows."""
    register_workflow(client, "shop", approve)
    client.run_workflow("shop", "approve", "one", "order 1")
    requested(client, "one", "replay_signal")
    tab.goto(f"{page.server.url}run/shop/approve/one")
    tab.click("#cancel summary")
    tab.fill("#cancel input[name=reason]", "no longer <wanted>")
    tab.click("#cancel button")
    tab.wait("document.querySelector('.chip.cancelled') !== null")
    assert "no longer <wanted>" in tab.text("#ending")
    assert tab.js("document.querySelector('form[method=post]')") is None


WORKER = """
import sys, replay
from tests.tools.test_browser import nap
client = replay.connect(sys.argv[1])
replay.register_workflow(client, "shop", nap)
sys.stdin.read()
"""


def test_q3_the_gap_of_a_killed_worker(place: str, tab: Page) -> None:
    """Q3: the page shows that nobody works, from when it was due, and keeps it afterwards."""
    command = [sys.executable, "-c", WORKER, place]
    with connect(place, loops=False) as watching, Served(watching) as page:
        watching.run_workflow("shop", "nap", "one", "x")
        with subprocess.Popen(command, stdin=subprocess.PIPE) as worker:
            requested(watching, "one", "replay_sleep")
            os.kill(worker.pid, signal.SIGKILL)
        tab.goto(f"{page.server.url}run/shop/nap/one")
        last = "[...document.querySelectorAll('.row.silence .state')].at(-1)"  # it began late, too
        first = tab.wait(f"document.querySelector('#row-2 ~ [id^=silence]') && {last}.textContent")
        assert tab.text(".row.silence .name") == "no worker"
        tab.wait(f"{last}.textContent !== '{first}'")
        with connect(place) as client:
            register_workflow(client, "shop", nap)
            assert client.result("shop", "nap", "one", 60) == "awake"
        tab.wait("document.querySelector('.chip.completed') !== null")
        assert tab.js("document.querySelector('#row-2 ~ [id^=silence]') !== null")
        shown = tab.js("document.querySelectorAll('.row.silence').length")
        assert tab.js("document.querySelectorAll('#timeline rect.silence').length") == shown


def test_q3_the_page_comes_back_after_a_restart(client: Client, tab: Page) -> None:
    """Q3: it keeps what it knows, says so, and its forms work with the new process."""
    register_workflow(client, "shop", approve)
    client.run_workflow("shop", "approve", "one", "order 1")
    with Served(client, write=True) as first:
        tab.goto(f"{first.server.url}run/shop/approve/one")
        tab.wait("document.querySelector('#waits form') !== null")
    tab.wait("!document.querySelector('#offline').hidden")
    assert "does not answer" in tab.text("#offline")
    assert tab.text("h1") == "one"
    with Served(client, write=True, port=first.port):
        tab.wait("document.querySelector('#offline').hidden")
        tab.click("#waits button")
        tab.wait("document.querySelector('.chip.completed') !== null")


def test_q3_a_list_of_10_000_runs(place: str, tab: Page) -> None:
    """Q3: the page has the newest 50, and leads to all others."""
    with connect(place, loops=False) as client, Served(client) as page:
        for n in range(10_000):
            client.run_workflow("shop", "order", f"order-{n}", None)
        drain(*client.loops())
        tab.goto(page.server.url)
        assert tab.text("#tab- b") == "10,000"
        assert tab.js("document.querySelectorAll('#runs tr').length") == 50
        assert tab.text("#runs a") == "order-9999"
        tab.click("a[rel=next]")
        tab.wait("document.querySelector('#runs a').textContent === 'order-9949'")
        client.run_workflow("shop", "order", "new", None)
        tab.click(".pages a")
        tab.wait("document.querySelector('#runs a').textContent === 'new'")


def test_q3_a_run_of_5_000_events_is_folded(client: Client, page: Served, tab: Page) -> None:
    """Q3: the page stays small, an update changes nothing of it, and a fold opens."""
    register_workflow(client, "shop", count)
    client.run_workflow("shop", "count", "one", 4_997)
    client.result("shop", "count", "one", 60)
    tab.goto(f"{page.server.url}run/shop/count/one")
    assert "5,000 events" in tab.text("#history h2")
    assert tab.js("document.querySelectorAll('a.row').length") < 320
    assert tab.js("document.querySelectorAll('*').length") < 4000
    tab.js(
        "window.changes = 0; new MutationObserver((all) => { window.changes += all.length; })"
        ".observe(document.body, {subtree: true, childList: true, attributes: true,"
        " characterData: true}); performance.clearResourceTimings()"
    )
    tab.wait("performance.getEntriesByType('resource').length >= 2")
    assert tab.js("window.changes") == 0
    tab.click("#fold-3 a")
    tab.wait("document.querySelector('#fold-3') === null")
    assert tab.js("document.querySelectorAll('a.row').length") < 500
    assert tab.js("performance.getEntriesByType('navigation').length") == 1


def test_q3_hostile_names_and_payloads_stay_text(client: Client, page: Served, tab: Page) -> None:
    """Q3: as names, messages, results, errors, reasons; no script of theirs runs."""
    evil = EVIL.replace("/", "")
    hurt = {"</pre><script>window.hurt = 1</script>": "<img src=x onerror='window.hurt = 1'>"}
    client.run_workflow(evil, evil, evil, hurt)
    register_workflow(client, evil, echo, name=evil)
    client.result(evil, evil, evil, 60)
    client.run_workflow(evil, evil, f"{evil}2", {"fail": EVIL})
    with pytest.raises(replay.RunFailed):
        client.result(evil, evil, f"{evil}2", 60)
    tab.goto(page.server.url)
    assert tab.text("#runs tr:last-child a") == evil
    tab.click("#runs tr:last-child a")
    tab.wait("document.querySelector('.ending') !== null")
    assert "window.hurt" in tab.text(".ending pre")
    tab.click("a.row.started")
    tab.wait("document.querySelector('#messages pre')?.textContent.includes('onerror')")
    tab.click(".crumbs a")
    tab.wait("document.querySelectorAll('#runs tr').length === 2")
    tab.click("#runs a")
    tab.wait("document.querySelector('#ending')?.textContent.includes('alert')")
    for path in ("consumers", "log"):
        tab.goto(page.server.url + path)
        assert "onerror" in tab.text("main")
    assert tab.js("window.hurt") is None


def test_q3_a_foreign_name_reads_nothing(client: Client, page: Served, tab: Page) -> None:
    """Q3: a name that somebody else points to this machine."""
    client.run_workflow("shop", "order", "secret", None)
    tab.goto(f"http://evil.localhost:{page.port}/")
    assert "secret" not in tab.js("document.documentElement.outerHTML")
    assert "does not belong to the page" in tab.text("main")


def test_q3_a_post_of_another_site_changes_nothing(client: Client, page: Served, tab: Page) -> None:
    """Q3: even if that site knew the secret of our forms."""
    register_workflow(client, "shop", approve)
    client.run_workflow("shop", "approve", "one", "x")
    requested(client, "one", "replay_signal")
    target = f"http://127.0.0.1:{page.port}/run/shop/approve/one/cancel"
    secret = page.site.token

    class Evil(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            form = f'<form method=post action="{target}"><input name=token value="{secret}">'
            script = "<script>document.forms[0].submit()</script>"
            body = f"<link rel=icon href=data:>{form}</form>{script}"
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Evil) as evil:
        thread = threading.Thread(target=evil.serve_forever)
        thread.start()
        tab.call("Page.navigate", url=f"http://evil.localhost:{evil.server_address[1]}/")
        tab.wait("document.querySelector('.problem')?.textContent.includes('another site')")
        evil.shutdown()
        thread.join()
    assert client.describe("shop", "approve", "one").status == "waiting"
    tab.errors.clear()


PATHS = ("", "run/shop/approve/one", "run/shop/echo/bad", "consumers", "log")
#: The lowest contrast of a text with what is behind it, and that text.
CONTRAST = """
(() => {
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const found = getComputedStyle(e).backgroundColor;
      if (found.startsWith("rgb(")) return numbers(found);
    }
    return [255, 255, 255];
  };
  let worst = [99, ""];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !e.getClientRects().length) continue;
    const style = getComputedStyle(e), svg = e.namespaceURI.endsWith("svg");
    const a = light(numbers(svg ? style.fill : style.color)), b = light(behind(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst[0]) worst = [ratio, `${e.nodeName} ${e.className} ${e.textContent}`];
  }
  return worst;
})()
"""


def _some_runs(client: Client) -> None:
    """Runs of several kinds, also with names that are long."""
    register_workflow(client, "shop", approve)
    register_workflow(client, "shop", echo)
    client.run_workflow("shop", "approve", "one", "x")
    client.run_workflow("shop", "echo", "bad", {"fail": "W" * 500})
    client.run_workflow("shop", "echo", "n" * 255, "long " * 99)
    client.result("shop", "echo", "n" * 255, 60)
    requested(client, "one", "replay_signal")
    with pytest.raises(replay.RunFailed):
        client.result("shop", "echo", "bad", 60)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_q3_it_can_be_read_in_the_light_and_in_the_dark(
    scheme: str, client: Client, page: Served, tab: Page
) -> None:
    """Q3: each text has a contrast of 4.5 (WCAG AA) with what is behind it."""
    _some_runs(client)
    tab.scheme(scheme)
    for path in PATHS:
        tab.goto(page.server.url + path)
        red, *_ = tab.js("getComputedStyle(document.body).backgroundColor.match(/\\d+/g)")
        assert (int(red) > 200) == (scheme == "light")
        ratio, text = tab.js(CONTRAST)
        assert ratio >= 4.5, (path, text)


def test_q3_it_fits_a_screen_of_390_pixels(client: Client, page: Served, tab: Page) -> None:
    """Q3: nothing is wider than the screen, also with long names and texts."""
    _some_runs(client)
    tab.size(390, 844)
    for path in (*PATHS, "run/shop/echo/" + "n" * 255):
        tab.goto(page.server.url + path)
        assert tab.js("document.documentElement.scrollWidth") <= 390, path
        outside = "[...document.querySelectorAll('text, input, button, td, pre, a')].filter((e) =>"
        outside += " { const b = e.getBoundingClientRect(); return b.width && (b.right > 391 ||"
        outside += " (b.left < -1 && !e.matches('.skip'))); }).map((e) => e.outerHTML)"
        assert tab.js(outside) == [], path


def _tab_to(tab: Page, condition: str) -> None:
    """Press Tab until the element with the focus is meant."""
    for _ in range(80):
        tab.press("Tab")
        if tab.js(f"((e) => Boolean({condition}))(document.activeElement)"):
            return
    raise AssertionError(f"no way by keyboard to {condition}")


def test_q3_it_works_by_keyboard_alone(client: Client, page: Served, tab: Page) -> None:
    """Q3: open a run, look at a message, cancel; the focus can be seen, and stays on updates."""
    _some_runs(client)
    tab.goto(page.server.url)
    tab.press("Tab")
    assert tab.js("document.activeElement.textContent") == "Skip to the content"
    _tab_to(tab, "e.textContent === 'one' && e.closest('#runs')")
    tab.press("Enter")
    tab.wait("document.querySelector('h1').textContent === 'one'")
    _tab_to(tab, "e.matches('a.row.signal')")
    assert (
        tab.js("getComputedStyle(document.activeElement.querySelector('.hit')).strokeWidth")
        == "2px"
    )
    before = tab.text(".facts")
    tab.wait(f"document.querySelector('.facts').textContent !== {json.dumps(before)}")
    assert tab.js("document.activeElement.matches('a.row.signal')")
    tab.press("Enter")
    tab.wait("document.querySelector('#messages pre') !== null")
    assert tab.js("document.activeElement.matches('a.row.signal')")
    tab.goto(f"{page.server.url}run/shop/approve/one")
    _tab_to(tab, "e.matches('#cancel summary')")
    tab.press("Enter")
    _tab_to(tab, "e.matches('#cancel button')")
    tab.press("Enter")
    tab.wait("document.querySelector('.chip.cancelled') !== null")


def test_q3_it_works_without_scripts(client: Client, page: Served, tab: Page) -> None:
    """Q3: links and forms are plain ones."""
    _some_runs(client)
    tab.scripts(False)
    tab.goto(page.server.url)
    tab.click("#runs tr:last-child a")
    tab.wait("document.querySelector('h1')?.textContent === 'one'")
    tab.click("a.row.signal")
    tab.wait("document.querySelector('#messages pre') !== null")
    tab.click("#waits button")
    tab.wait("document.querySelector('.note') !== null")
    tab.scripts(True)
    assert client.result("shop", "approve", "one", 60) == "x: None"
