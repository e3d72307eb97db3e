"""Whose API is spoken: one folder a family. A family knows bytes and counts, and speaks to nobody.

base        the seam: `Family`
operation   what may be asked of an API, and on which routes
asked       what a request says
meters      what reads an answer
dialogue    what reads the messages of a session
units       what a bill counts
opened      a family with endpoints that an operator has opened beside its own
formats/    framings and readers that several families share
openai/     OpenAI's API, and that of all who speak like it
azure/      OpenAI's, at Azure
anthropic/  Anthropic's
google/     Google's, at the Gemini API
vertex/     Google's, at Vertex AI
bedrock/    AWS Bedrock's
cohere/     Cohere's
mistral/    Mistral's
"""

from typing import Final

from tollhouse.families.openai import OPENAI

DEFAULT: Final = OPENAI
"""In whose form is refused what is addressed to nobody that is known."""
