"""The same work for DBOS, which runs in its own environment.

`dbos_work.py URL RUNS STEPS STEPS_OF_ONE` runs RUNS workflows of STEPS steps, and one of
STEPS_OF_ONE. It prints the version of DBOS and the figures as JSON. URL is that of the database in
which DBOS keeps its state; nothing else is set. DBOS can start many workflows one by one in the
process, or enqueue them. When tried, both were about equally fast; this uses the first. The time
includes the starts, because a DBOS workflow begins when it is started.
"""

import json
import sys
import threading
import time
from importlib.metadata import version

from dbos import DBOS  # type: ignore[import-not-found, unused-ignore]

WAIT = 300  # seconds, for all runs


def echo(number: int) -> int:
    return number + 1


def main(url: str, runs: int, steps: int, steps_of_one: int) -> None:
    DBOS(
        config={
            "name": "bench",
            "system_database_url": url,
            "log_level": "WARNING",
        }
    )
    step = DBOS.step(name="echo")(echo)
    ended = threading.Semaphore(0)
    gaps: list[float] = []

    def many(count: int) -> None:
        for number in range(count):
            step(number)
        ended.release()

    def one(count: int) -> None:
        for number in range(count):
            begin = time.perf_counter()
            step(number)
            gaps.append(time.perf_counter() - begin)

    start_many, run_one = DBOS.workflow(name="many")(many), DBOS.workflow(name="one")(one)
    DBOS.launch()
    run_one(20)
    gaps.clear()
    run_one(steps_of_one)
    begin = time.perf_counter()
    handles = [DBOS.start_workflow(start_many, steps) for _ in range(runs)]
    if not all(ended.acquire(timeout=WAIT) for _ in handles):
        raise TimeoutError(f"not all of {runs} workflows ended in {WAIT} s")
    rate = runs * steps / (time.perf_counter() - begin)
    DBOS.destroy()
    print(json.dumps({"version": version("dbos"), "rate": rate, "gaps": gaps}))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
