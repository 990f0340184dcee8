#!/usr/bin/env bash
# One command: installs what is missing, builds, and runs every test. The last line counts them.
#   ./test.sh                    the release preset, everything
#   ./test.sh --preset NAME      with another preset (asan, tsan, dev, coverage)
#   ./test.sh --short            smaller end-to-end cases
#   ./test.sh --only unit|net|virtual|layering|e2e|package [--only ...]
#   ./test.sh --all              the Debian package too: built, installed into clean roots, booted (needs root)
set -euo pipefail
cd "$(dirname "$0")"
. packaging/need.sh

preset=release
only=()
all=no
while [ $# -gt 0 ]; do
    case "$1" in
        --preset) preset=${2:?}; shift 2 ;;
        --short) export CURVEGATE_E2E=short; shift ;;
        --only) only+=("${2:?}"); shift 2 ;;
        --all) all=yes; shift ;;
        *) sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 64 ;;
    esac
done
wanted() { [ "${#only[@]}" = 0 ] || [[ " ${only[*]} " == *" $1 "* ]]; }

packages="$build_packages catch2 binutils"
if wanted e2e; then packages="$packages $(grep -v '^#' tests/e2e/packages.txt)"; fi
if wanted package; then packages="$packages $(grep -v '^#' tests/package/packages.txt)"; fi
case "$preset" in asan | tsan) packages="$packages clang-19 libclang-rt-19-dev llvm-19" ;; esac
# shellcheck disable=SC2086 # a list of words
need $packages

say "building ($preset)"
cmake --preset "$preset" -DCURVEGATE_WERROR="${CURVEGATE_WERROR:-OFF}" >/dev/null
targets=(all)
if [ "${only[*]}" = unit ]; then targets=(curvegate-unit-tests curvegate-sodium-tests); fi
if [ "${only[*]}" = net ]; then targets=(curvegate-net-tests); fi
if [ "${only[*]}" = virtual ]; then targets=(curvegate-virtual-tests); fi
cmake --build --preset "$preset" --target "${targets[@]}"
bin=$PWD/build/$preset/bin

passed=0
failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
count() { # NAME PASSED FAILED EXIT-STATUS: a program that died without a count is one failure
    passed=$((passed + $2))
    failed=$((failed + $3))
    if [ "$4" != 0 ] && [ "$3" = 0 ]; then failed=$((failed + 1)); fi
    echo "$1: $2 passed, $3 failed"
}

run_catch() {
    local status=0 summary
    "$bin/$2" 2>&1 | tee "$log" || status=${PIPESTATUS[0]}
    summary=$(grep -E '^(All tests passed|test cases:)' "$log" | tail -n 1) || true # one that died has none
    local ok=0 bad=0
    if [[ "$summary" =~ in\ ([0-9]+)\ test\ case ]]; then ok=${BASH_REMATCH[1]}; fi
    if [[ "$summary" =~ \|\ *([0-9]+)\ passed ]]; then ok=${BASH_REMATCH[1]}; fi
    if [[ "$summary" =~ \|\ *([0-9]+)\ failed ]]; then bad=${BASH_REMATCH[1]}; fi
    if [ "$ok" = 0 ] && [ "$status" = 0 ]; then status=1; fi
    count "$1" "$ok" "$bad" "$status"
}

if wanted unit; then
    say "unit, fsm and vector tests"
    run_catch unit curvegate-unit-tests
    run_catch "boxes by libsodium alone" curvegate-sodium-tests
fi
if wanted net; then say "actors"; run_catch net curvegate-net-tests; fi
if wanted virtual; then say "actors under virtual time"; run_catch virtual curvegate-virtual-tests; fi
if wanted layering; then
    say "layering"
    for one in layering layering-wall; do
        if ctest --test-dir "build/$preset" -R "^$one\$" --no-tests=error --output-on-failure >"$log"; then count "$one" 1 0 0; else
            cat "$log"
            count "$one" 0 1 1
        fi
    done
fi
run_pytest() { # NAME FOLDER
    local status=0 summary ok bad
    # Four at once: most of a test is waiting.
    CURVEGATE_BIN=$bin /usr/bin/python3 -B -m pytest "$2" -n 4 --dist load -q -p no:cacheprovider -rs 2>&1 | tee "$log" || status=${PIPESTATUS[0]}
    summary=$(tail -n 1 "$log")
    ok=$(grep -oE '[0-9]+ passed' <<<"$summary" | cut -d' ' -f1) || ok=0
    bad=$(grep -oE '[0-9]+ (failed|error)' <<<"$summary" | awk '{n += $1} END {print n + 0}') || bad=0
    if [ "${ok:-0}" = 0 ] && [ "$status" = 0 ]; then status=1; fi
    count "$1" "${ok:-0}" "${bad:-0}" "$status"
}
if wanted e2e; then say "end to end"; run_pytest e2e tests/e2e; fi
if wanted package; then say "units, manual pages, completion"; run_pytest package tests/package; fi
if [ "$all" = yes ]; then
    say "the Debian package"
    for step in "packaging/package.sh --lint" tests/package/run.sh tests/package/boot.sh; do
        if $step; then count "$step" 1 0 0; else count "$step" 0 1 1; fi
    done
fi

printf '\n%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
