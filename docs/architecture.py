"""Draws architecture.svg: `python docs/architecture.py` rewrites it beside this file.

Columns from left to right: the database, one process, your functions.  Below them: a server, and
the processes that reach the log through it.  A test fails when the picture is not what this draws.
"""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 1230, 836
STYLE = """
  text { font: 13px ui-sans-serif, system-ui, sans-serif; fill: #1f2933 }
  .title { font-weight: 600 }
  .small { font-size: 11.5px; fill: #52606d }
  .code { font: 12.5px ui-monospace, monospace }
  .box { fill: #ffffff; stroke: #52606d }
  .area { fill: #f5f7fa; stroke: #9aa5b1 }
  path { fill: none; stroke: #52606d; stroke-width: 1.5 }
  path.read { stroke: #2f6fd0 }
  path.add { stroke: #b3541e }
  text.read { fill: #2f6fd0 }
  text.add { fill: #b3541e }
  @media (prefers-color-scheme: dark) {
    text { fill: #e4e7eb }
    .small { fill: #9aa5b1 }
    .box { fill: #28333e; stroke: #9aa5b1 }
    .area { fill: #161d24; stroke: #52606d }
    path { stroke: #9aa5b1 }
    path.read { stroke: #7fb1f5 }
    path.add { stroke: #f0a070 }
    text.read { fill: #7fb1f5 }
    text.add { fill: #f0a070 }
  }
"""
TABLES = [
    ("replay_events", "the log: events are only added"),
    ("replay_cursors", "each consumer's cursor and owner"),
    ("replay_parked", "failed events and next attempts"),
    ("replay_sleeps", "when each sleep is over"),
    ("replay_signals", "signals, and the await that took each"),
    ("replay_signal_awaits", "awaits and their timeouts"),
    ("replay_runs", "each run's status, to list them"),
    ("replay_inbox", "what your transactions have sent"),
    ("replay_processes", "the processes that are alive"),
]
#: Each row of a process: module, purpose, what it reads, what it adds, what it calls.
ROWS = [
    ("client.py", "starts and signals runs", "all", "cre, signals", "your program"),
    ("workflow.py", "gives runs their events", "cre, res", "req, out, com", ""),
    ("activity.py", "executes requests", "req", "res", "activity(ctx, backends, message)"),
    ("sleep.py", "answers sleeps when due", "req: sleeps", "res", ""),
    ("signal.py", "gives signals to awaits", "req: awaits, com", "res", ""),
    ("consumer.py", "your own consumers", "all", "their cursor", "handler(event)"),
]
LEGEND = (
    "cre RUN_CREATED    req ACTIVITY_REQUEST    res ACTIVITY_RESPONSE    out RUN_OUTPUT"
    "    com RUN_COMPLETED    (a restart: com and cre)"
)
TOP, STEP, TALL = 96, 83, 70  # of the rows
TABLE_STEP, TABLE_TALL = 64, 56  # of the tables


def text(x: int, y: int, words: str, kind: str = "", anchor: str = "start") -> str:
    """A line of text."""
    where = f'x="{x}" y="{y}" text-anchor="{anchor}"'
    return f'<text {where} class="{kind}" xml:space="preserve">{escape(words)}</text>'


def box(x: int, y: int, width: int, height: int, kind: str = "box") -> str:
    """A box with round corners."""
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" class="{kind}"/>'


def named_box(x: int, y: int, width: int, name: str, words: str, tall: int = TALL) -> str:
    """A box with a name in the program, and what it is for."""
    middle = y + tall // 2
    lines = text(x + 12, middle - 5, name, "code"), text(x + 12, middle + 16, words, "small")
    return "\n".join((box(x, y, width, tall), *lines))


def arrow(x: int, y: int, to: int, kind: str = "", words: str = "") -> str:
    """A level arrow from x to `to`, with words above it."""
    back = -7 if to > x else 7
    line = f'<path d="M{x} {y}H{to}m{back} -4L{to} {y}l{back} 4" class="{kind}"/>'
    return line + text((x + to) // 2, y - 6, words, f"small {kind}", "middle") if words else line


def database() -> list[str]:
    """The left column."""
    parts = [box(20, 50, 266, 626, "area"), text(36, 74, "database", "title")]
    parts.append(text(114, 74, "SQLite, MariaDB or MySQL", "small"))
    for n, (table, holds) in enumerate(TABLES):
        parts.append(named_box(36, TOP + n * TABLE_STEP, 234, table, holds, TABLE_TALL))
    return parts


def process() -> list[str]:
    """The middle column: the log as one process sees it, and its consumers."""
    parts = [box(394, 62, 550, 560, "area"), box(382, 50, 550, 560, "area")]
    parts += [text(398, 74, "a process", "title")]
    parts.append(
        text(476, 74, "any number of them; each consumer has one owner at a time", "small")
    )
    parts.append(box(398, TOP, 92, 485))
    for n, module in enumerate(("log.py", "event.py", "tail.py", "database.py")):
        parts.append(text(444, 310 + n * 24, module, "code", "middle"))
    parts.append(arrow(286, 250, 398, "read", "new events"))
    parts.append(arrow(398, 420, 286, "add", "one transaction"))
    parts.append(text(342, 437, "with the cursor", "small add", "middle"))
    for n, (module, does, reads, adds, _) in enumerate(ROWS):
        y = TOP + n * STEP
        parts.append(arrow(490, y + 26, 590, "read", reads))
        parts.append(arrow(590, y + 58, 490, "add", adds))
        parts.append(named_box(590, y, 178, module, does))
    return parts


def runs() -> list[str]:
    """The runs that a workflow's consumer holds, each a function in a greenlet."""
    y = TOP + STEP
    parts = [box(826 - shift, y - 6 + shift, 96, TALL - 10) for shift in (0, 6, 12)]
    parts.append(text(862, y + 37, "run.py", "code", "middle"))
    parts.append(text(862, y + 55, "a greenlet each", "small", "middle"))
    return [arrow(768, y + 26, 814), arrow(814, y + 50, 768), *parts]


def users() -> list[str]:
    """The right column: the functions that the process calls, and the program that calls it."""
    parts = [text(972, 74, "yours", "title")]
    for n, (*_, function) in enumerate(ROWS):
        if function:
            y = TOP + n * STEP + TALL // 2
            ends = (966, 768) if function == "your program" else (768, 966)
            parts += [arrow(ends[0], y, ends[1]), text(972, y + 4, function, "code")]
    y = TOP + STEP + TALL // 2
    parts += [arrow(910, y, 966), text(972, y + 4, "workflow(ctx, message)", "code")]
    return parts


def server() -> list[str]:
    """The bottom row: a server, and a process that reaches the log through it."""
    top = 640
    parts = [box(382, top, 300, 130, "area"), text(398, top + 24, "a server", "title")]
    parts.append(text(462, top + 24, "replay server", "small code"))
    parts.append(named_box(398, top + 40, 124, "host.py", "the log, sessions"))
    parts.append(named_box(542, top + 40, 124, "services.py", "checks every call"))
    parts.append(box(782, top, 404, 130, "area"))
    parts.append(text(798, top + 24, "processes without access to the database", "title"))
    parts.append(named_box(798, top + 40, 124, "remote.py", "instead of log.py"))
    parts.append(text(938, top + 62, "the same consumers as above; or", "small"))
    parts.append(text(938, top + 82, "programs in any language", "small"))
    parts.append('<path d="M152 676V715H398m-7 -4L398 715l-7 4M145 683L152 676l7 7"/>')
    parts.append(arrow(666, top + 62, 798, "read", "gRPC: events"))
    parts.append(arrow(798, top + 94, 666, "add", "commits"))
    return parts


def picture() -> str:
    """The whole file."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
    title = "The event log in a database, the consumers of a process, your functions, and a server"
    return "\n".join(
        [
            f'{head} width="{WIDTH}" height="{HEIGHT}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            text(
                20,
                30,
                "What happens is an event in the log. Consumers read the log and add to it.",
                "title",
            ),
            *database(),
            *process(),
            *runs(),
            *users(),
            *server(),
            text(20, 812, LEGEND, "small"),
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture(), encoding="utf-8")
