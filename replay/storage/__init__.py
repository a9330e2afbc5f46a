"""What the log is stored in: events, the tail in memory, and the databases."""
