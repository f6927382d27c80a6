# For the scripts that bring things up and look at them from outside; to be sourced. HTTPS_PORT is HAProxy's,
# STAPLER_HTTP_PORT is haproxy-stapler's, both on the loopback; $work/root.pem is what clients trust.
# shellcheck shell=bash
# shellcheck source=scripts/debian.sh
. scripts/debian.sh

# Generous, for a loaded machine: a check passes as soon as it sees what it wants.
patience=240
passed=0
failed=0
work=$(mktemp -d)

free_port() {
    local port
    while port=$((20000 + RANDOM % 10000)); (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
    echo "$port"
}

# soon COMMAND...: succeeds as soon as the command does.
soon() {
    local end=$((SECONDS + patience))
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.2
    done
}

check() {
    local what=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
        printf 'ok   %s\n' "$what"
    else
        failed=$((failed + 1))
        printf 'FAIL %s\n' "$what"
    fi
}

# handshake HOST: what a client sees: good, revoked, none; nothing where there is no handshake.
handshake() {
    local seen
    seen=$(timeout 5 openssl s_client -connect "127.0.0.1:$HTTPS_PORT" -servername "$1" -status </dev/null 2>/dev/null) || true
    case $seen in
        *'Cert Status: good'*) echo good ;;
        *'Cert Status: revoked'*) echo revoked ;;
        *'no response sent'*) echo none ;;
    esac
}

# The first handshake that HAProxy makes, whatever it shows.
first_handshake() {
    local end=$((SECONDS + patience)) seen=
    until seen=$(handshake "$1") && [ -n "$seen" ]; do
        [ "$SECONDS" -lt "$end" ] || break
        sleep 0.05
    done
    echo "$seen"
}

shows() {
    [ "$(handshake "$1")" = "$2" ]
}

# strict HOST: the judgement of a client that insists on a staple.
strict() {
    curl --silent --max-time 5 --cert-status --cacert "$work/root.pem" --resolve "$1:$HTTPS_PORT:127.0.0.1" \
        "https://$1:$HTTPS_PORT/" >/dev/null
}

all_strict() {
    local host
    for host in "$@"; do
        strict "$host" || return 1
    done
}

stapler() {
    curl --silent --fail --max-time 5 "http://127.0.0.1:$STAPLER_HTTP_PORT$1"
}

is_ok() {
    stapler /healthz | grep -q '"status":"ok"'
}

# To end with.
verdict() {
    printf '\n%s passed, %s failed\n' "$passed" "$failed"
    [ "$failed" -eq 0 ]
}
