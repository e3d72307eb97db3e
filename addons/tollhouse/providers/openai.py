"""OpenAI: https://platform.openai.com/docs/api-reference."""

from tollhouse.families import openai as family
from tollhouse.families.asked import Dialect
from tollhouse.providers.exchange_terms import (
    ID,
    JWT,
    TOKEN_EXCHANGE,
    ExchangeStep,
    ExchangeTerms,
    Parameter,
    Refusal,
)
from tollhouse.providers.provider import CredentialSlot, Provider

_PARAMETERS = {"identity_provider_id": Parameter(ID), "service_account_id": Parameter(ID)}
_REFUSALS = (
    Refusal(
        "invalid_grant",
        "rule",
        "It takes no mapping of the identity provider for this issuer, audience and subject.",
    ),
    Refusal("invalid_target", "audience", "The audience is not that of the identity provider."),
)
# openai-python `auth/_x509.py`.
_BY_CERTIFICATE = ExchangeTerms(
    steps=(
        ExchangeStep(
            "https://mtls.auth.openai.com/oauth/token",
            (
                ("grant_type", TOKEN_EXCHANGE),
                ("subject_token_type", "urn:openai:params:oauth:token-type:x509"),
                ("identity_provider_id", "{identity_provider_id}"),
                ("service_account_id", "{service_account_id}"),
            ),
            "json",
        ),
    ),
    hosts=("mtls.api.openai.com", "mtls-us.api.openai.com", "mtls-eu.api.openai.com"),
    parameters=_PARAMETERS,
    refusals=_REFUSALS,
)
# openai-python `auth/_workload.py`. The endpoint's codes are those of RFC 6749 5.2.
_EXCHANGE = ExchangeTerms(
    steps=(
        ExchangeStep(
            "https://auth.openai.com/oauth/token",
            (
                ("grant_type", TOKEN_EXCHANGE),
                ("subject_token", "{subject_token}"),
                ("subject_token_type", JWT),
                ("identity_provider_id", "{identity_provider_id}"),
                ("service_account_id", "{service_account_id}"),
            ),
            "json",
        ),
    ),
    hosts=("api.openai.com", "*.api.openai.com"),
    parameters=_PARAMETERS,
    refusals=_REFUSALS,
    by_certificate=_BY_CERTIFICATE,
)

OPENAI = Provider(
    name="openai",
    company="OpenAI",
    service="OpenAI API",
    genai_name="openai",
    family=family.OPENAI,
    exchange=_EXCHANGE,
    # The residency hosts are those of openai-python `_data_residency.py`.
    hosts=(
        "api.openai.com",
        "us.api.openai.com",
        "eu.api.openai.com",
        "ae.api.openai.com",
        "au.api.openai.com",
        "in.api.openai.com",
        "jp.api.openai.com",
    ),
    openai_path="/v1",
    slot=CredentialSlot("authorization", "Bearer "),
    free_call="/v1/models",
    key_variables=("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "CODEX_API_KEY"),
    # The second is that of `codex exec`, which does not look at the first.
    demanded=("OPENAI_API_KEY", "CODEX_API_KEY"),
    account_headers={"organization": "openai-organization", "project": "openai-project"},
    who_pays=frozenset({"openai-organization", "openai-project"}),
    # openai-node `src/realtime/websocket.ts`; the other two: https://platform.openai.com/docs/guides/realtime-websocket.
    key_subprotocols=("openai-insecure-api-key.", "openai-ephemeral-api-key."),
    subprotocols_who_pay=("openai-organization.", "openai-project."),
    dialect=Dialect(usage_in_stream="on_request", own_rules=True),
    # "Max output tokens" of https://platform.openai.com/docs/models; all others have 128,000 (gpt-5, gpt-6).
    output_limits=(
        ("gpt-3.5-turbo-16k*", 16_384),
        ("gpt-3.5*", 4_096),
        ("gpt-4", 8_192),
        ("gpt-4-0*", 8_192),
        ("gpt-4-32k*", 32_768),
        ("gpt-4-*", 4_096),
        ("gpt-realtime*", 4_096),
        ("gpt-4o*-realtime*", 4_096),
        ("gpt-4o*", 16_384),
        ("gpt-4.1*", 32_768),
        ("gpt-4.5*", 16_384),
        ("chatgpt-4o*", 16_384),
        ("gpt-audio*", 16_384),
        ("gpt-5-chat*", 16_384),
        ("gpt-5-pro*", 272_000),
        ("o1-preview*", 32_768),
        ("o1-mini*", 65_536),
        ("o1*", 100_000),
        ("o3*", 100_000),
        ("o4-mini*", 100_000),
    ),
)
