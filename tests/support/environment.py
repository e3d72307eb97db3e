"""The variables of the machine that would change what a test sees: proxies, CA files, provider keys, Vault logins."""

from __future__ import annotations

import re
from collections.abc import MutableMapping

from tollhouse.providers import BUILT_IN

# CLIENTS.md's list of what clients read, and what their libraries and the clouds' own SDKs read beside it.
_NAMES = re.compile(
    r"""
      (?:HTTPS?|ALL|FTP|WSS?|NO)_PROXY
    | NODE_(?:USE_ENV_PROXY|EXTRA_CA_CERTS|USE_SYSTEM_CA|OPTIONS|TLS_REJECT_UNAUTHORIZED)
    | (?:NIX_)?SSL_CERT_(?:FILE|DIR) | SSLKEYLOGFILE | PYTHONHTTPSVERIFY
    | (?:REQUESTS|CURL)_CA_BUNDLE | HTTPLIB2_CA_CERTS | GRPC_DEFAULT_SSL_ROOTS_FILE_PATH
    | (?:OPENAI|ANTHROPIC|AZURE|GEMINI|GOOGLE|MISTRAL|COHERE|CO|AWS|VAULT|BAO|REDIS)_.+
    | TOLLHOUSE_CONFIG
    """,
    re.VERBOSE | re.IGNORECASE,
)
_KEYS = frozenset(variable for provider in BUILT_IN for variable in provider.key_variables)


def clean(environ: MutableMapping[str, str]) -> None:
    """Take them out of ``environ``."""
    for name in [name for name in environ if name in _KEYS or _NAMES.fullmatch(name)]:
        del environ[name]
