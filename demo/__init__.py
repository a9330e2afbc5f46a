"""The demo: a time-weighted-average-price (TWAP) strategy that survives `kill -9`.

An order is split into sub-orders that are published at equal intervals, each at the market's price
of that moment. `python -m demo` runs a few dozen orders in several worker processes and kills some
of them on the way.

    workflow.py   the strategy: one workflow, one activity (start reading here)
    market.py     orders and market ticks from the CSV files
    worker.py     a worker process
    fleet.py      the worker processes as the driver sees them
    board.py      where the orders are, read from the log
    driver.py     watches the runs, and kills a worker now and then
    progress.py   what is shown meanwhile
    proof.py      what the log must hold at the end
    trace.py      one run printed, its events beside the steps of the workflow
    __main__.py   the command: starts the runs, and reports at the end
    generate.py   made the CSV files
"""
