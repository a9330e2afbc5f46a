"""Tests of `replay.storage`."""
