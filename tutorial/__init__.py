"""Twelve lessons in durable execution: see README.md, or run `./dev tutorial`.

Each lesson is a package: README.md tells it, `start.py` is to be completed, `solution.py` is one
way to do that, and `check.py` says what the log shows once it is done.
"""
