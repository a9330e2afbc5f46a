"""Build your own: ten steps from an empty log to an engine that passes the project's scenarios.

Each step is a package.  README.md explains it, and you complete `start.py`.  `solution.py` is one
way to do that, and the code that the next step begins with.  `check.py` says what holds.
"""
