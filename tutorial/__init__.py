"""Fifteen lessons in durable execution: see README.md, or run `./dev tutorial`.

Each lesson is a package. README.md explains it, and you complete `start.py`. `solution.py` is one
way to do that. `check.py` says what the log shows once the lesson is done.
"""
