#!/bin/bash
# run.sh SECONDS [HARNESS...]: runs every harness (or those named, as fuzz-wire-packets) that long, one after the
# other, from build/fuzz/bin. New inputs go to a temporary folder; an input that breaks something is kept there.
set -u
here=$(cd "$(dirname "$0")" && pwd)
seconds=${1:?usage: run.sh SECONDS [HARNESS...]}
shift
bin=${FUZZ_BIN:-$here/../build/fuzz/bin}
work=$(mktemp -d "${TMPDIR:-/tmp}/curvegate-fuzz.XXXXXX")
[ $# -gt 0 ] || set -- $(cd "$bin" && ls | grep '^fuzz-')
failed=0
for harness in "$@"; do
    name=${harness#fuzz-}
    corpus=$here/corpus/${name//-/_}
    mkdir -p "$work/$harness"
    if "$bin/$harness" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=0 -verbosity=0 \
        -artifact_prefix="$work/$harness-" "$work/$harness" "$corpus" >"$work/$harness.log" 2>&1; then
        echo "$harness: $seconds s, nothing found"
    else
        failed=$((failed + 1))
        echo "$harness: FAILED"
        cat "$work/$harness.log"
        ls "$work/$harness-"* 2>/dev/null
    fi
done
[ $failed -eq 0 ] || { echo "$failed harnesses failed; what broke them is in $work"; exit 1; }
rm -r "$work"
