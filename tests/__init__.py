"""The test suite: one contract, run against every database."""
