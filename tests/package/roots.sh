# shellcheck shell=bash disable=SC2154,SC2034 # $deb is its user's, $began for him
# Sourced by run.sh and boot.sh: a folder of their own with clean Debian roots, and what takes all of it away again.
# Needs $deb.

[ "$(id -u)" = 0 ] || die "run me as root: debootstrap, chroot and namespaces need it"
need debootstrap iproute2 util-linux python3

# find_deb [FILE|FOLDER]: the package to test, by default the one of packaging/package.sh.
find_deb() {
    local found=("${1:-build/package}"/curvegate_*.deb)
    if [ -f "${1:-}" ]; then found=("$1"); fi
    [ -f "${found[0]}" ] || die "no package ${found[0]}: build it with packaging/package.sh"
    realpath "${found[0]}"
}

work=$(mktemp -d "${TMPDIR:-/tmp}/curvegate-package.XXXXXX")
started=()
networks=()
groups=()

# remove_group GROUP: a cgroup goes when the last of its processes has been reaped.
remove_group() {
    local i
    echo 1 >"$1/cgroup.kill" || true
    for ((i = 0; i < 50; i++)); do
        find "$1" -depth -type d -exec rmdir {} \; 2>/dev/null || true
        [ -d "$1" ] || return 0
        sleep 0.1
    done
    echo "the cgroup $1 could not be removed" >&2
}

clean_up() {
    local it
    for it in "${started[@]}"; do kill -9 "$it" 2>/dev/null || true; done
    wait 2>/dev/null || true
    for it in "${networks[@]}"; do ip netns del "$it" 2>/dev/null || true; done
    for it in "${groups[@]}"; do remove_group "$it"; done
    # debootstrap and apt take down what they mount; what an interrupted one left must go before rm.
    { grep -F " $work/" /proc/self/mounts || true; } | cut -d' ' -f2 | sort -r | xargs -r -n 1 umount
    rm -rf --one-file-system "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

began=$SECONDS step_began=$SECONDS step_name=
step() { # NAME: says how long the step before took
    if [ -n "$step_name" ]; then echo "   ($((SECONDS - step_began)) s)"; fi
    step_name=$1 step_began=$SECONDS
    say "$1"
}
fail() {
    echo "FAILED: $*" >&2
    tail -n 20 "$work"/*.log >&2 2>/dev/null || true
    exit 1
}
# same WHAT IS WANTED
same() { [ "$2" = "$3" ] || fail "$1: is '$2', want '$3'"; }

# in_plain ROOT COMMAND...: with /proc, which systemd-tmpfiles wants, and the machine's network, where the archive is.
in_plain() {
    local root=$1
    shift
    unshare --mount --mount-proc="$root/proc" chroot "$root" "$@"
}

apt=(env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 apt-get -qq -o Dpkg::Use-Pty=0 --yes)

# make_root ROOT: minbase of Debian 12, from this machine's apt source, in which nothing is started by apt.
make_root() {
    local root=$1 sources=/etc/apt/sources.list.d/debian.sources mirror file
    if [ -f "$sources" ]; then
        mirror=$(sed -n 's/^URIs: *\([^ ]*\).*/\1/p' "$sources" | head -n 1)
    else
        sources=/etc/apt/sources.list
        mirror=$(sed -n 's/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*\) bookworm main.*/\2/p' "$sources" | head -n 1)
    fi
    [ -n "$mirror" ] || die "$sources names no archive of bookworm"
    debootstrap --variant=minbase bookworm "$root" "$mirror" >"$work/debootstrap.log" 2>&1 || fail debootstrap
    rm -f "$root/etc/apt/sources.list"
    case "$sources" in
        *.sources) cp "$sources" "$root/etc/apt/sources.list.d/" ;;
        *) cp "$sources" "$root/etc/apt/" ;;
    esac
    for file in /etc/apt/apt.conf.d/*proxy*; do if [ -f "$file" ]; then cp "$file" "$root/etc/apt/apt.conf.d/"; fi; done
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    echo '127.0.0.1 localhost' >"$root/etc/hosts"
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
}

# install_deb ROOT
install_deb() {
    cp "$deb" "$1/curvegate.deb"
    in_plain "$1" "${apt[@]}" update >"$work/apt.log" 2>&1 || fail "apt-get update"
    in_plain "$1" "${apt[@]}" install --no-install-recommends /curvegate.deb >>"$work/apt.log" 2>&1 || fail "apt-get install"
    rm "$1/curvegate.deb"
}
