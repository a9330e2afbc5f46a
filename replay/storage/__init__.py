"""Everything below the log: events, the tail in memory, and the databases."""
