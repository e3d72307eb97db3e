#!/bin/sh
# What OpenBao has to know, as README.md says: the key, a policy, and a login whose two files go to $1. To be run as often as one likes.
set -eu
umask 077
printf '%s' "$OPENAI_API_KEY" | bao kv put -mount=secret infrastructure/openai api_key=- >/dev/null
bao policy write tollhouse - >/dev/null <<'END'
path "secret/data/infrastructure/*" { capabilities = ["read"] }
path "secret/data/projects/*"       { capabilities = ["read"] }
END
bao read sys/auth/approle >/dev/null 2>&1 || bao auth enable approle >/dev/null
bao write auth/approle/role/tollhouse token_policies=tollhouse token_ttl=1h >/dev/null
# Beside the old file first: this user may not write over a file that it has given away.
bao read -field=role_id auth/approle/role/tollhouse/role-id >"$1/.role-id"
bao write -f -field=secret_id auth/approle/role/tollhouse/secret-id >"$1/.secret-id"
chown "$OWNER" "$1/.role-id" "$1/.secret-id"
mv -f "$1/.role-id" "$1/role-id"
mv -f "$1/.secret-id" "$1/secret-id"
