"""Drivers, which perform the scenarios with an implementation, and what runs them."""
