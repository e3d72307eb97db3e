"""Whose API is spoken: `base` is the seam, `units` what a bill counts, ``formats`` what several share, a folder a family."""

from typing import Final

from tollhouse.families.openai import OPENAI

DEFAULT: Final = OPENAI
"""In whose form is refused what is addressed to nobody that is known."""
