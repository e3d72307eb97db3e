"""ChatGPT as Codex calls it with a subscription's login: OpenAI's Responses below ``/backend-api/codex``. There is no key for it.

Codex 0.171.0 of November 2026 asks here with an API key as well (models, plugins): 404 inside TLS costs it no time, and a refused
CONNECT 6 s.
"""

import re

from tollhouse.families.asked import Dialect
from tollhouse.families.openai import variants
from tollhouse.providers.provider import CredentialSlot, Login, Provider

CHATGPT = Provider(
    name="chatgpt",
    company="OpenAI",
    service="ChatGPT",
    genai_name="openai",
    family=variants.CHATGPT,
    hosts=("chatgpt.com",),
    aside=("/*",),
    slot=CredentialSlot("authorization", "Bearer "),
    accepts=frozenset(),
    # A JWT of its own issuer. An API key is `sk-...`.
    login=Login(
        re.compile(r"eyJ[0-9A-Za-z_-]{10,4000}(?:\.[0-9A-Za-z_-]{10,8000}){2}"),
        # Of `codex exec`, which then calls the API with a key though there is a login in its home.
        hidden_by=("CODEX_API_KEY",),
    ),
    dialect=Dialect(usage_in_stream="always"),
    prices_from="openai",
)
