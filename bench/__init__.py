"""The benchmark: every figure that the project promises, measured on this machine.

In reading order: `rows` (a line of the table), `backends` (fresh databases), `raw` (the database
without the library), `work` (the workflows measured), then the measures: `steps`, `recovery`,
`waits`, `idle`, `peers`. `worker` is the process that `recovery` kills and that `idle` weighs.
"""
