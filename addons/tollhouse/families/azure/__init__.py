"""OpenAI's API, as Azure OpenAI and Foundry speak it. The list of models is open.

https://learn.microsoft.com/rest/api/microsoft-foundry/azureopenai/models: /v1 needs no api-version, the other path does.
"""

from dataclasses import replace
from typing import Final

from tollhouse.families.base import model_list
from tollhouse.families.openai import OPENAI

AZURE: Final = replace(
    OPENAI,
    spoken_by_others=False,
    routes=(*model_list("/openai/v1/models"), *model_list("/openai/models")),
)
