"""Tests of `replay.server`."""
