"""OpenAI's API, as Azure OpenAI and Foundry speak it. A model is called by the name of its deployment.

routes    the endpoints: OpenAI's, at Azure's paths
request   OpenAI's body, and the deployment in the path
foundry   Claude: Anthropic's API

https://learn.microsoft.com/azure/foundry/openai/reference
"""

from dataclasses import replace
from typing import Final

from tollhouse.families.anthropic import ANTHROPIC
from tollhouse.families.asked import Asked, Dialect, Request
from tollhouse.families.azure import foundry
from tollhouse.families.azure import request as of_openai
from tollhouse.families.azure.routes import ROUTES
from tollhouse.families.openai import KINDS as OF_OPENAI
from tollhouse.families.openai import OPENAI

KINDS: Final = OF_OPENAI.plus(foundry.KINDS)


def read(request: Request, dialect: Dialect) -> Asked:
    """Claude's deployment stands in the body."""
    if request.path.startswith(foundry.PATH):
        return KINDS.read(request, dialect)
    return of_openai.read(request, dialect)


AZURE: Final = replace(
    OPENAI,
    spoken_by_others=False,
    routes=(*ROUTES, *foundry.ROUTES),
    below=((foundry.PATH, ANTHROPIC),),
    read=read,
    rewrite=KINDS.rewrite,
    sent_headers=KINDS.sent_headers,
    estimate=KINDS.estimate,
    meter=KINDS.meter,
)
