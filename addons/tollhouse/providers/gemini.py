"""Google Gemini API: https://ai.google.dev/api. Known by name and host; no endpoint is open yet."""

from tollhouse.providers.base import CredentialSlot, Provider

GEMINI = Provider(
    name="gemini",
    family="google",
    hosts=("generativelanguage.googleapis.com",),
    slot=CredentialSlot("x-goog-api-key"),
    key_variables=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    who_pays=frozenset({"x-goog-user-project"}),
    prices_from="google",
)
