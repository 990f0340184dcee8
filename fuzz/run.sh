#!/bin/bash
# run.sh SECONDS [HARNESS...]: runs every harness (or those named, as fuzz-wire-packets) that long, one a processor
# at once, from build/fuzz/bin. New inputs go to a temporary folder; an input that breaks something is kept there.
set -u
here=$(cd "$(dirname "$0")" && pwd)
seconds=${1:?usage: run.sh SECONDS [HARNESS...]}
shift
bin=${FUZZ_BIN:-$here/../build/fuzz/bin}
[ $# -gt 0 ] || set -- $(cd "$bin" && ls | grep '^fuzz-')
[ $# -gt 0 ] || { echo "run.sh: no harness in $bin; build the target curvegate-fuzzers of the preset fuzz" >&2; exit 1; }
work=$(mktemp -d "${TMPDIR:-/tmp}/curvegate-fuzz.XXXXXX")

fuzz() { # HARNESS
    local name=${1#fuzz-}
    mkdir -p "$work/$1"
    if "$bin/$1" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=0 -verbosity=0 \
        -artifact_prefix="$work/$1-" "$work/$1" "$here/corpus/${name//-/_}" >"$work/$1.log" 2>&1; then
        echo "$1: $seconds s, nothing found"
    else
        echo "$1: FAILED"
        cat "$work/$1.log"
        ls "$work/$1-"* 2>/dev/null
        return 1
    fi
}
export -f fuzz
export here seconds bin work

printf '%s\n' "$@" | xargs -P "$(nproc)" -I HARNESS bash -c 'fuzz HARNESS' ||
    { echo "harnesses failed; what broke them is in $work"; exit 1; }
rm -r "$work"
