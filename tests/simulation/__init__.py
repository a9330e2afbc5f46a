"""A whole cluster in one thread: random programs, schedules and faults, against plain Python."""
