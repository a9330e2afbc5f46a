"""The demo: a time-weighted-average-price (TWAP) strategy that survives `kill -9`.

The strategy splits an order into sub-orders and publishes them at equal intervals, each at the
market's price of that moment. `python -m demo` runs a few dozen orders in several worker processes.
It kills up to two of them while they work.

    workflow.py   the strategy: one workflow, one activity (start reading here)
    messages.py   what the log holds
    market.py     orders and market ticks from the CSV files
    worker.py     a worker process
    fleet.py      starts, kills and stops the worker processes
    board.py      the state of the orders, read from the log
    driver.py     watches the runs, and kills up to two workers
    progress.py   shows the progress
    proof.py      checks the log at the end
    trace.py      prints one run, with its events beside the workflow's steps
    __main__.py   the command: starts the runs, and prints the report at the end
    generate.py   makes the CSV files
"""
