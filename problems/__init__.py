"""Named problems and the levels that train on them.

A problem is a module of this package with a ``PROBLEM`` (see ``problems/registry.py``); adding one is adding a file.
"""

from problems.registry import NamedProblem, find_problem, problem_names

__all__ = ["NamedProblem", "find_problem", "problem_names"]
