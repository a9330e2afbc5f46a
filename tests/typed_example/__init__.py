"""A namespace with a definition, for the tests of `replay.typed`."""
