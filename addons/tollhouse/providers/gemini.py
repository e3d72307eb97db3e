"""Google Gemini API: https://ai.google.dev/api. The list of models is open."""

from tollhouse.providers.base import CredentialSlot, Provider, model_list

# https://ai.google.dev/api/models. It has no colon: behind one stands a method (`models/NAME:generateContent`).
_NAME = r"[A-Za-z0-9._-]+"

GEMINI = Provider(
    name="gemini",
    family="google",
    hosts=("generativelanguage.googleapis.com",),
    slot=CredentialSlot("x-goog-api-key"),
    endpoints=(*model_list("/v1beta/models", _NAME), *model_list("/v1/models", _NAME)),
    free_call="/v1beta/models",
    key_variables=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    who_pays=frozenset({"x-goog-user-project"}),
    prices_from="google",
    longest_context=2_000_000,
)
