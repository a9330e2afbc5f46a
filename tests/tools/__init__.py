"""Tests of `replay.tools`."""
