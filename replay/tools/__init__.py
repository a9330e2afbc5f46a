"""Commands and helpers around a log; the library itself needs none of them."""
