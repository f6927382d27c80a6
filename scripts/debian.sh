# For the scripts that unpack Debian's packages; to be sourced.
# shellcheck shell=bash

# The archive that this machine installs its own packages from.
archive() {
    # shellcheck disable=SC2016 # apt expands it
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -E '/debian/?$' | head -n 1
}

# The one suite with a Rust, a HAProxy and a Prometheus as their public images have them, and with what older ones lack.
suite=forky

# unpack PACKAGES TARGET [OPTION...]: a tree, or a tar archive, with these packages of that suite. Testing's lists are valid
# for a week, and a mirror may be older.
unpack() {
    local packages=$1 target=$2 log
    shift 2
    log=$(mktemp)
    mmdebstrap --quiet --variant=extract --include="$packages" \
        --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
        --aptopt='Acquire::Languages "none"' --aptopt='Acquire::Check-Valid-Until "false"' \
        "$@" "$suite" "$target" "$(archive)" 2>"$log" || fail "mmdebstrap: $(tail -n 3 "$log")"
    rm -f "$log"
}

say() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

fail() {
    say "$@"
    exit 1
}

# need_engine SCRIPT [ARGUMENT...]: runs the script again by scripts/engine, unless that was who ran it.
need_engine() {
    [ -n "${STAPLER_ENGINE:-}" ] && return
    # What runs next has a trap of its own, and a directory.
    [ -z "${work:-}" ] || rmdir "$work"
    exec scripts/engine "$@"
}
