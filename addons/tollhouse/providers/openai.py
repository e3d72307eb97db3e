"""OpenAI: https://platform.openai.com/docs/api-reference."""

import re

from tollhouse.providers.base import CredentialSlot, Endpoint, Provider

OPENAI = Provider(
    name="openai",
    family="openai",
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
    slot=CredentialSlot("authorization", "Bearer "),
    endpoints=(
        Endpoint("POST", re.compile(r"/v1/chat/completions"), "chat", billable=True),
        Endpoint("POST", re.compile(r"/v1/embeddings"), "embeddings", billable=True),
        Endpoint("GET", re.compile(r"/v1/models"), "models", billable=False),
        Endpoint("GET", re.compile(r"/v1/models/[A-Za-z0-9._:-]+"), "models", billable=False),
    ),
    key_variables=("OPENAI_API_KEY", "OPENAI_ADMIN_KEY"),
    who_pays=frozenset({"openai-organization", "openai-project"}),
    usage_in_stream="on_request",
)
