"""Tollhouse beside other gateways for LLMs, under one load, in one run."""
