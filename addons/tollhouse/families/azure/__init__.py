"""OpenAI's API, as Azure OpenAI and Foundry speak it. A model is called by the name of its deployment.

routes    the endpoints: OpenAI's, at Azure's paths
request   OpenAI's body, and the deployment in the path

https://learn.microsoft.com/azure/foundry/openai/reference
"""

from dataclasses import replace
from typing import Final

from tollhouse.families.azure.request import read
from tollhouse.families.azure.routes import ROUTES
from tollhouse.families.openai import OPENAI

AZURE: Final = replace(OPENAI, spoken_by_others=False, routes=ROUTES, read=read)
