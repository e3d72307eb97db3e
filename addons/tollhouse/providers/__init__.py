"""The providers known by name: data, one file each. A configuration changes an entry or adds its own
(`config.models.ProviderConfig`). No code here runs on a call.

provider    `Provider` and `Catalog`
exchange_terms  how a provider gives a credential for a token of the gateway's identity
vault_role  keys that Vault's AWS engine leases
openai      OpenAI
anthropic   Anthropic
azure       Azure OpenAI and Foundry
gemini      the Gemini API
vertex      Vertex AI
bedrock     AWS Bedrock
mistral     Mistral
cohere      Cohere
groq        Groq
deepseek    DeepSeek
xai         xAI
openrouter  OpenRouter
together    Together
fireworks   Fireworks
perplexity  Perplexity
chatgpt     ChatGPT, for a subscription's login alone
"""

from typing import Final

from tollhouse.providers.anthropic import ANTHROPIC
from tollhouse.providers.azure import AZURE
from tollhouse.providers.bedrock import BEDROCK
from tollhouse.providers.chatgpt import CHATGPT
from tollhouse.providers.cohere import COHERE
from tollhouse.providers.deepseek import DEEPSEEK
from tollhouse.providers.exchange_terms import ExchangeStep, ExchangeTerms, Federation
from tollhouse.providers.fireworks import FIREWORKS
from tollhouse.providers.gemini import GEMINI
from tollhouse.providers.groq import GROQ
from tollhouse.providers.mistral import MISTRAL
from tollhouse.providers.openai import OPENAI
from tollhouse.providers.openrouter import OPENROUTER
from tollhouse.providers.perplexity import PERPLEXITY
from tollhouse.providers.provider import (
    Catalog,
    CredentialKind,
    CredentialSlot,
    Login,
    Provider,
    UpstreamProxy,
)
from tollhouse.providers.together import TOGETHER
from tollhouse.providers.vault_role import VaultRole
from tollhouse.providers.vertex import VERTEX
from tollhouse.providers.xai import XAI

BUILT_IN: tuple[Provider, ...] = (
    OPENAI,
    ANTHROPIC,
    AZURE,
    GEMINI,
    VERTEX,
    BEDROCK,
    MISTRAL,
    COHERE,
    GROQ,
    DEEPSEEK,
    XAI,
    OPENROUTER,
    TOGETHER,
    FIREWORKS,
    PERPLEXITY,
    CHATGPT,
)
CREDENTIAL_HEADERS: tuple[str, ...] = tuple(
    dict.fromkeys(
        [provider.slot.header for provider in BUILT_IN]
        + [slot.header for provider in BUILT_IN for _, slot in provider.slots_below]
        + [header for provider in BUILT_IN for header in provider.other_slots]
    )
)
"""Where a key may stand in a request to any of them, each once, in the order in which a call's credential is looked for."""
KEY_SUBPROTOCOLS: Final = tuple(
    dict.fromkeys(start for provider in BUILT_IN for start in provider.key_subprotocols)
)
"""Behind which a key may stand in a WebSocket's handshake with any of them."""
PAYER_SUBPROTOCOLS: Final = tuple(
    dict.fromkeys(start for provider in BUILT_IN for start in provider.subprotocols_who_pay)
)

DEFAULT: Final = OPENAI
"""Whose API the base URL speaks where its path names no provider (``/v1/...``)."""

__all__ = [
    "BUILT_IN",
    "CREDENTIAL_HEADERS",
    "DEFAULT",
    "KEY_SUBPROTOCOLS",
    "PAYER_SUBPROTOCOLS",
    "Catalog",
    "CredentialKind",
    "CredentialSlot",
    "ExchangeStep",
    "ExchangeTerms",
    "Federation",
    "Login",
    "Provider",
    "UpstreamProxy",
    "VaultRole",
]
