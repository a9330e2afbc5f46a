"""The suite itself ends: many threads may end while coverage watches them."""

import subprocess
import sys
from pathlib import Path

from tests.ledger import ROOT

PROGRAM = """
import threading
from tests.tracing import keep_main_greenlets

def churn():
    for _ in range(200):
        thread = threading.Thread(target=len, args=("",))
        thread.start()
        thread.join()

def step():
    return 1

kept = keep_main_greenlets()
threads = [threading.Thread(target=churn) for _ in range(6)]
for thread in threads:
    thread.start()
while any(thread.is_alive() for thread in threads):
    step()
print("ended")
"""


def test_threads_may_end_while_coverage_watches(tmp_path: Path) -> None:
    """Without keep_main_greenlets this program never ends on Python 3.11."""
    program, settings = tmp_path / "program.py", tmp_path / "settings"
    program.write_text(PROGRAM)
    settings.write_text("[run]\nbranch = true\nconcurrency = thread,greenlet\n")
    command = [sys.executable, "-m", "coverage", "run", f"--rcfile={settings}", str(program)]
    environment = {"PYTHONPATH": str(ROOT), "COVERAGE_FILE": str(tmp_path / "data")}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr
