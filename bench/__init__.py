"""The benchmark: measures, on this machine, every figure that the project promises.

In reading order:

    rows       a line of the table
    backends   fresh databases
    raw        the database without the library
    work       the workflows that are measured
    steps, recovery, waits, idle, values, remote, peers
               the measures
    worker     the process that `recovery` kills and that `idle` measures
"""
