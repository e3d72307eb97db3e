#!/usr/bin/env bash
# A CA like the one that Tollhouse makes for itself, with openssl (3.0 or later), where its key shall be made elsewhere or a
# rotation needs two at a time:   certs/make-ca.sh DIRECTORY HOST...      ("*.x.y" is taken as x.y, which covers it)
set -euo pipefail
if (($# < 2)); then
  echo "usage: ${0##*/} DIRECTORY HOST..." >&2
  exit 2
fi
directory=$1
shift
umask 077
mkdir -p "$directory"
for file in ca.pem ca-key.pem; do
  if [[ -e $directory/$file ]]; then
    echo "$directory/$file is there already and is not overwritten: give another directory" >&2
    exit 1
  fi
done
config=$(mktemp)
trap 'rm -f "$config"' EXIT
{
  printf '%s\n' '[req]' 'prompt = no' 'distinguished_name = name' 'x509_extensions = ca' \
    '[name]' 'O = Tollhouse' "CN = Tollhouse CA $(openssl rand -hex 4)" \
    '[ca]' 'basicConstraints = critical, CA:TRUE, pathlen:0' 'keyUsage = critical, keyCertSign' \
    'extendedKeyUsage = serverAuth' 'subjectKeyIdentifier = hash' 'nameConstraints = critical, @limits' \
    '[limits]' 'excluded;IP.1 = 0.0.0.0/0.0.0.0' 'excluded;IP.2 = 0:0:0:0:0:0:0:0/0:0:0:0:0:0:0:0'
  number=0
  for host; do
    printf 'permitted;DNS.%d = %s\n' "$((number += 1))" "${host#'*.'}"
  done
} >"$config"
openssl req -x509 -config "$config" -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -sha256 -days 3650 \
  -keyout "$directory/ca-key.pem" -out "$directory/ca.pem" 2>/dev/null
chmod 0644 "$directory/ca.pem"
openssl x509 -in "$directory/ca.pem" -noout -fingerprint -sha256
