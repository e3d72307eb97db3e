"""Cohere's API: https://docs.cohere.com/reference. The list of models is open."""

from typing import Final

from tollhouse.families.base import Family, Rule, model_list
from tollhouse.families.formats.errors import EVERYWHERE
from tollhouse.families.formats.plain_errors import error_body, error_event

COHERE: Final = Family(
    "cohere",
    routes=model_list("/v1/models"),
    error_body=error_body,
    error_event=error_event,
    verdicts=(Rule("refused", 498, "https://docs.cohere.com/reference/errors"), *EVERYWHERE),
    spoken_by_others=True,
)
