"""Processes and servers that are killed with -9, and what their log has to look like afterwards."""
