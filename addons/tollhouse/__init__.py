"""Tollhouse: the forward egress proxy through which a company's programs call AI providers.

A call walks through the rooms in this order: `listen` takes it, `admit` judges it, `budget` holds
its cost, `credential` brings the key, `dispatch` sends it and gives the answer back, `budget`
settles, and `book` writes the line. `journey` leads it along this road, and `gateway` is the table
of contents. docs/architecture.md says what every room is for.
"""

from importlib.metadata import version

__version__ = version("tollhouse")
