"""Tollhouse: the forward egress proxy through which a company's programs call AI providers."""

from importlib.metadata import version

__version__ = version("tollhouse")
