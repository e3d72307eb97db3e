"""A gateway whose stores stand on other machines, as `doctor` looks at one."""

from __future__ import annotations

CONFIG = """
[listen]
proxy = "*:8080"
unsafe_plaintext_listen = true
[redis]
url = "redis://10.0.0.5:6390"
[vault]
address = "https://vault.internal:8200"
auth = { method = "token_file", token_file = "token" }
"""
