"""Tollhouse: the forward egress proxy through which a company's programs call AI providers.

The road of a call, in order: `listen` -> `admit` -> `budget` -> `credential` -> `dispatch` -> `meter` -> back to `budget`, which
settles, and `book`, which writes the line. `journey` takes a call along it; `gateway` is the table of contents. Beside it:
`providers` (data), `trust` (the CA), `config`, `admin` (the commands) and `demo`.
"""

from importlib.metadata import version

__version__ = version("tollhouse")
