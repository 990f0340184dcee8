#!/usr/bin/env bash
# One command: builds the Debian packages into build/package/.
#   packaging/package.sh          of the tree as it is here
#   packaging/package.sh --lint   and stops at what lintian calls an error
# DEB_BUILD_OPTIONS=parallel=N says how many compilers run at once (default: one a CPU).
set -euo pipefail
cd "$(dirname "$0")/.."
. packaging/need.sh

lint=no
case "${1:-}" in
    "") ;;
    --lint) lint=yes ;;
    *) sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 64 ;;
esac

# shellcheck disable=SC2086 # a list of words
need $build_packages build-essential dpkg-dev debhelper fakeroot git
if [ "$lint" = yes ]; then need lintian; fi

out=$PWD/build/package
tree=$out/tree
version=$(sed -n 's/^project(curvegate VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)
[ -n "$version" ] || die "CMakeLists.txt names no version"

# A copy of what belongs to the project: of a checkout what git knows or would add, otherwise everything.
say "copying the tree"
rm -rf "$tree"
mkdir -p "$tree"
if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    git ls-files -co --exclude-standard -z | while IFS= read -r -d '' file; do
        if [ -e "$file" ]; then printf '%s\0' "$file"; fi
    done | tar --null -T - -cf - | tar -xf - -C "$tree"
else
    tar --exclude=./build -cf - . | tar -xf - -C "$tree"
fi
cp -R packaging/debian "$tree/debian"

# The time of the last change, not of this build: the same tree gives the same packages.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH
cat >"$tree/debian/changelog" <<END
curvegate ($version) unstable; urgency=medium

  * See CHANGELOG.md.

 -- The curvegate authors <maintainers@curvegate.invalid>  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
END

# terse: a short line for each file that is compiled, not the compiler's whole command line.
export DEB_BUILD_OPTIONS="${DEB_BUILD_OPTIONS:-} terse"
say "building curvegate $version"
rm -f "$out"/*.deb "$out"/*.buildinfo "$out"/*.changes
(cd "$tree" && dpkg-buildpackage --build=binary --no-sign)
ls -l "$out"/*.deb

if [ "$lint" = yes ]; then
    say "lintian"
    lintian --allow-root --fail-on error "$out"/*.changes
fi
