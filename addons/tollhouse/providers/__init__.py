"""The providers known by name. A configuration changes an entry or adds its own; see `config.ProviderConfig`."""

from tollhouse.providers.anthropic import ANTHROPIC
from tollhouse.providers.azure import AZURE
from tollhouse.providers.base import Catalog, CredentialKind, CredentialSlot, Provider
from tollhouse.providers.bedrock import BEDROCK
from tollhouse.providers.cohere import COHERE
from tollhouse.providers.gemini import GEMINI
from tollhouse.providers.mistral import MISTRAL
from tollhouse.providers.openai import OPENAI
from tollhouse.providers.vertex import VERTEX

BUILT_IN: tuple[Provider, ...] = (OPENAI, ANTHROPIC, GEMINI, VERTEX, AZURE, BEDROCK, MISTRAL, COHERE)

__all__ = ["BUILT_IN", "Catalog", "CredentialKind", "CredentialSlot", "Provider"]
