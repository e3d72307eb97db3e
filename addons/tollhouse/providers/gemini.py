"""Google Gemini API: https://ai.google.dev/api."""

from tollhouse.families import google as family
from tollhouse.providers.provider import CredentialSlot, Provider

OUTPUT_LIMITS = (
    ("gemini-live*", 65_536),
    ("gemini-2.0*", 8_192),
    ("gemini-2.5*", 65_536),
    ("gemini-3*", 65_536),
)
"""https://ai.google.dev/gemini-api/docs/models"""

GEMINI = Provider(
    name="gemini",
    company="Google",
    service="Gemini API",
    genai_name="gcp.gemini",
    family=family.GOOGLE,
    hosts=("generativelanguage.googleapis.com",),
    base_paths=(
        *("/v1beta/*", "/v1alpha/*", "/upload/v1*/*", "/ws/google.ai.generativelanguage.*"),
        *("/v1/models/*:generateContent", "/v1/models/*:streamGenerateContent"),
        *("/v1/models/*:embedContent", "/v1/models/*:batchEmbedContents"),
        "/v1/models/*:countTokens",
    ),
    # https://ai.google.dev/gemini-api/docs/openai
    openai_path="/v1beta/openai",
    model_globs=("gemini-*", "gemma-*"),
    slot=CredentialSlot("x-goog-api-key"),
    free_call="/v1beta/models",
    key_variables=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    who_pays=frozenset({"x-goog-user-project"}),
    prices_from="google",
    longest_context=2_000_000,
    output_limits=OUTPUT_LIMITS,
)
