"""Tests of the project around the library: texts, demo, tutorial, mutants."""
