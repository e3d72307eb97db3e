# What a workload must be told, for all clients in docs/clients.md. To be sourced by sh or bash:
#
#   TOLLHOUSE_PROXY=http://proj_123:gate_...@gateway:8080 TOLLHOUSE_CERTS=/etc/tollhouse-certs . ./env.sh
#
# TOLLHOUSE_CERTS holds ca.pem (from the gateway's state directory) and bundle.pem (`tollhouse ca bundle`).
: "${TOLLHOUSE_PROXY:?the URL of the gateway with project and gate token}"
: "${TOLLHOUSE_CERTS:?the directory that holds ca.pem and bundle.pem}"

export HTTPS_PROXY="$TOLLHOUSE_PROXY" https_proxy="$TOLLHOUSE_PROXY"
export NO_PROXY="${NO_PROXY:-localhost,127.0.0.1,::1}" no_proxy="${NO_PROXY:-localhost,127.0.0.1,::1}"
# These replace the public roots, hence the bundle.
export SSL_CERT_FILE="$TOLLHOUSE_CERTS/bundle.pem"
export REQUESTS_CA_BUNDLE="$TOLLHOUSE_CERTS/bundle.pem"
export CURL_CA_BUNDLE="$TOLLHOUSE_CERTS/bundle.pem"
export GIT_SSL_CAINFO="$TOLLHOUSE_CERTS/bundle.pem"
export AWS_CA_BUNDLE="$TOLLHOUSE_CERTS/bundle.pem"
export CODEX_CA_CERTIFICATE="$TOLLHOUSE_CERTS/bundle.pem"
export PIP_CERT="$TOLLHOUSE_CERTS/bundle.pem"
# These add to them.
export NODE_EXTRA_CA_CERTS="$TOLLHOUSE_CERTS/ca.pem"
export DENO_CERT="$TOLLHOUSE_CERTS/ca.pem"
# Node 24 and later; earlier ones take no proxy from the environment.
export NODE_USE_ENV_PROXY=1
