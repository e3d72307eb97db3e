#!/bin/sh
# Tries each way out of the place that it runs in, and the right ways, as far as curl can. For images without Python; the probe in
# Python has more rows. Made by `tollhouse doctor --print-probe sh`:
#
#     tollhouse doctor --print-probe sh | kubectl exec -i POD -- sh -s -- --json
#
# It needs a POSIX sh and curl. Each row opens one connection. Exit 0: all is as it should be; 1: it is not; 2: wrong use.
#PLAN#
json=
case "${1-}" in
"") ;;
--json) json=1 ;;
*)
    echo "the one option is --json" >&2
    exit 2
    ;;
esac
command -v curl >/dev/null || {
    echo "there is no curl here" >&2
    exit 2
}
umask 077
work=$(mktemp -d "${TMPDIR:-/tmp}/doctor.XXXXXX") || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 2' HUP INT TERM
printf '%s\n' "$ca" >"$work/ca.pem"
places=${HTTPS_PROXY:-${https_proxy:-}}
set_proxy=${proxy:-$places}
# The user part of the place's own HTTPS_PROXY is not sent: rows say what they send.
case "$places" in
*@*) password=${places%@*} password=${password##*:} ;;
*) password= ;;
esac
scheme=${set_proxy%%://*}
set_proxy=${set_proxy:+$scheme://${set_proxy##*[@/]}}
unset HTTPS_PROXY https_proxy HTTP_PROXY http_proxy ALL_PROXY all_proxy NO_PROXY no_proxy
token=
# A login of the place that is a JWT, in a provider's variable, is not taken for one.
for text in "${TOLLHOUSE_TOKEN-}" "$password"; do
    case "$text" in
    gate_* | eyJ*.*.*) [ -n "$token" ] || token=$text ;;
    esac
done
for text in $(for name in $variables; do eval "printf '%s\n' \"\${$name-}\""; done); do
    case "$text" in
    gate_*) [ -n "$token" ] || token=$text ;;
    esac
done
wrong=
count=0
comma=
row() { # name, what was tried, what should be, what happened, ok|WRONG|-
    count=$((count + 1))
    [ "$5" != WRONG ] || wrong="$wrong $1"
    if [ -n "$json" ]; then
        case "$5" in ok) state=true ;; WRONG) state=false ;; *) state=null ;; esac
        printf '%s\n  {"name": "%s", "tried": "%s", "should": "%s", "happened": "%s", "ok": %s}' "$comma" "$1" "$2" "$3" "$4" "$state"
        comma=,
    else
        printf '%-5s  %-18s  %-50s  %-38s  %s\n' "$5" "$1" "$2" "$3" "$4"
    fi
}
at() { case "$1" in *:*) printf '[%s]' "$1" ;; *) printf '%s' "$1" ;; esac; }
# One connection; what curl says of it is in $said: HTTP status, seconds until it was connected, reason, call id, exit status.
try() {
    said=$(curl -q -s -o /dev/null --max-time "$timeout_s" --connect-timeout "$timeout_s" \
        -w '%{http_code} %{time_connect} %{time_appconnect} %{http_connect}' -D "$work/head" "$@" 2>/dev/null </dev/null)
    code=$?
    # shellcheck disable=SC2086
    set -- $said
    status=${1-000} connected=${2-0} secured=${3-0} tunnel=${4-000}
    reason=$(tr '[:upper:]' '[:lower:]' <"$work/head" 2>/dev/null | tr -d '\r' | sed -n 's/^x-tollhouse-reason: *//p' | tail -n 1)
    ours=$(grep -ci '^x-tollhouse-call-id:' "$work/head" 2>/dev/null)
    rm -f "$work/head"
}
nought() { case "$1" in *[1-9]*) return 1 ;; esac; }
tcp() { # name, tried, host, port
    try "telnet://$(at "$3"):$4"
    should="refused or no answer"
    [ -z "$at_once" ] || should="refused at once"
    if ! nought "$connected"; then
        row "$1" "$2" "$should" connected WRONG
    elif [ -n "$at_once" ] && [ "$code" = 28 ]; then
        row "$1" "$2" "$should" "no answer in $timeout_s s" WRONG
    else
        row "$1" "$2" "$should" "curl exit $code" ok
    fi
}
handshake() { # name, tried, address, name in the handshake
    try -k --connect-to "::$(at "$3"):443" "https://$4/"
    if nought "$secured"; then
        row "$1" "$2" "refused or no answer" "curl exit $code" ok
    else
        row "$1" "$2" "refused or no answer" "TLS with somebody" WRONG
    fi
}
direct() { # name, tried, address
    if [ -z "$transparent" ]; then
        tcp "$1" "$2" "$3" "$provider_port"
        return
    fi
    try --cacert "$work/ca.pem" --connect-to "::$(at "$3"):$provider_port" "https://$provider:$provider_port$path"
    if [ "$code" = 60 ]; then
        row "$1" "$2" "led to Tollhouse, or refused" "a certificate that is not Tollhouse's" WRONG
    elif nought "$secured"; then
        row "$1" "$2" "led to Tollhouse, or refused" "curl exit $code" ok
    else
        row "$1" "$2" "led to Tollhouse, or refused" "led to Tollhouse" ok
    fi
}
refused() { # name, tried, reason, arguments of curl
    name=$1 tried=$2 should=$3
    shift 3
    try "$@"
    if [ "$reason" = "$should" ]; then state=ok; else state=WRONG; fi
    [ "$status" != 000 ] || status=$tunnel
    row "$name" "$tried" "$should" "$status $reason" "$state"
}
right() { # name, tried, arguments of curl
    name=$1 tried=$2
    shift 2
    if [ -z "$token" ]; then
        row "$name" "$tried" 200 "not tried: there is no token here; set TOLLHOUSE_TOKEN" -
        return
    fi
    # Not in an argument, which other users of the machine could read.
    printf 'header = "%s: %s%s"\n' "$header" "$prefix" "$token" >"$work/token"
    try -K "$work/token" --cacert "$work/ca.pem" "$@"
    if [ "$status" = 200 ] && [ "$ours" != 0 ]; then state=ok; else state=WRONG; fi
    row "$name" "$tried" 200 "$status $reason" "$state"
}

[ -z "$json" ] || printf '{"rows": ['
direct direct-ipv4 "TLS for $provider, $addresses_0" "$addresses_0"
direct direct-ipv6 "TLS for $provider, $addresses_1" "$addresses_1"
handshake raw-ip-ipv4 "TLS without a name, $addresses_0" "$addresses_0" "$addresses_0"
handshake raw-ip-ipv6 "TLS without a name, $addresses_1" "$addresses_1" "$(at "$addresses_1")"
tcp other-port-ipv4 "TCP, $addresses_0 port 8443" "$addresses_0" 8443
tcp other-port-ipv6 "TCP, $addresses_1 port 8443" "$addresses_1" 8443
tcp dns-tcp-ipv4 "DNS, $resolvers_0 TCP port 53" "$resolvers_0" 53
tcp dns-tcp-ipv6 "DNS, $resolvers_1 TCP port 53" "$resolvers_1" 53
tcp dns-tls-ipv4 "DNS over TLS, $resolvers_0" "$resolvers_0" 853
tcp dns-tls-ipv6 "DNS over TLS, $resolvers_1" "$resolvers_1" 853
handshake dns-https-ipv4 "DNS over HTTPS, $resolvers_0" "$resolvers_0" "$doh"
handshake dns-https-ipv6 "DNS over HTTPS, $resolvers_1" "$resolvers_1" "$doh"
for name in udp-443-ipv4 udp-443-ipv6 dns-udp-ipv4 dns-udp-ipv6 dns-txt ping-ipv4 ping-ipv6 gateway-dns; do
    row "$name" "UDP or ICMP" "refused or no answer" "not tried: curl has no UDP; use the probe in Python" -
done
tcp metadata "cloud metadata, 169.254.169.254" 169.254.169.254 80
for name in redis vault admin; do
    eval "host=\${${name}_0-} port=\${${name}_1-}"
    if [ -n "$host" ]; then
        tcp "$name" "the gateway's $name, $host port $port" "$host" "$port"
    else
        row "$name" "the gateway's $name" "refused or no answer" "not tried: on the gateway's loopback alone" -
    fi
done
if [ -n "$set_proxy" ]; then
    url="https://$provider:$provider_port$path"
    refused proxy-no-token "the proxy, without a token" identity_missing -k -x "$set_proxy" "$url"
    refused proxy-wrong-token "the proxy, with a wrong token" identity_unknown -k -x "$set_proxy" \
        -H "$header: ${prefix}gate_0000000000000000000000000000000000000000000" "$url"
    refused proxy-other-host "the proxy, to $outside" host_not_allowed -k -x "$set_proxy" "https://$outside/"
    right right-proxy "the proxy, with this place's token" -x "$set_proxy" "$url"
elif [ -z "${proxy_is_off-}" ]; then
    row right-proxy "the proxy" 200 "not tried: HTTPS_PROXY is not set here; set it, or make the probe with --gateway" -
fi
if [ -n "$transparent" ]; then
    row right-dns "the address of $provider, from the place's own name server" "an address" \
        "not tried: curl has no UDP; use the probe in Python" -
    for at in "ipv4 $addresses_0" "ipv6 $addresses_1"; do
        right "right-${at%% *}" "$provider without a proxy, over ${at%% *}" \
            --connect-to "::$(at "${at#* }"):$provider_port" "https://$provider:$provider_port$path"
    done
fi
if [ -n "$json" ]; then
    names=
    for name in $wrong; do names="$names${names:+, }\"$name\""; done
    if [ -n "$wrong" ]; then state=false; else state=true; fi
    printf '\n ], "ok": %s, "wrong": [%s]}\n' "$state" "$names"
else
    printf '\n%s rows, not as they should be:%s\n' "$count" "${wrong:- none}"
fi
[ -z "$wrong" ]
