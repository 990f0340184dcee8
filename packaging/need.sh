# Sourced by demo.sh, test.sh and .ci/run: `need PACKAGE...` installs the Debian packages that are missing, as
# root or through sudo. It simulates first and stops rather than remove a package. No service is left behind: what
# comes with a package is neither started while it is installed nor at the next boot.

say() { printf '\n== %s\n' "$*"; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

missing_packages() {
    local package
    for package in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || printf '%s\n' "$package"
    done
}

# boot_links: the links by which units and old-style scripts start with the machine.
boot_links() {
    { find /etc/systemd/system /etc/rc[S2-5].d -type l ! -name 'K*' 2>/dev/null || true; } | LC_ALL=C sort
}

# not_at_boot LINKS-BEFORE: takes back what the packages have enabled since. What was enabled before stays, and so does
# what belongs to systemd itself, for a machine that had none.
not_at_boot() {
    local link name own
    own=$(dpkg-query -L systemd 2>/dev/null || true)
    LC_ALL=C comm -13 <(printf '%s\n' "$1") <(boot_links) | while read -r link; do
        name=${link##*/}
        case "$link" in
            /etc/rc*) as_root update-rc.d "${name#S[0-9][0-9]}" disable >/dev/null ;;
            *)
                if grep -q "/system/${name/@*./@.}\$" <<<"$own"; then continue; fi
                as_root rm -f "$link"
                ;;
        esac
    done
}

need() {
    local missing policy=/usr/sbin/policy-rc.d ours=no
    mapfile -t missing < <(missing_packages "$@")
    [ "${#missing[@]}" -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "this needs Debian 12 (apt-get is missing); packages wanted: ${missing[*]}"
    [ "$(id -u)" = 0 ] || command -v sudo >/dev/null || die "run me as root, or install sudo; packages wanted: ${missing[*]}"
    say "installing ${missing[*]}"
    local -a apt=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0)
    as_root "${apt[@]}" update || die "apt-get update failed"
    local plan
    plan=$(as_root "${apt[@]}" --simulate --no-install-recommends install "${missing[@]}") ||
        die "apt cannot install ${missing[*]}: $plan"
    if grep '^Remv' <<<"$plan" >&2; then die "apt would remove the packages above; nothing was changed"; fi
    if [ ! -e "$policy" ]; then
        ours=yes
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
    fi
    local result=0 links
    links=$(boot_links)
    as_root "${apt[@]}" --yes --no-install-recommends install "${missing[@]}" >/dev/null || result=$?
    if [ "$ours" = yes ]; then as_root rm -f "$policy"; fi
    not_at_boot "$links" || die "services of ${missing[*]} may start with the machine; systemctl disable takes that back"
    [ "$result" = 0 ] || die "apt-get install failed"
}

# What the product is built with.
build_packages="g++ cmake ninja-build pkg-config libsodium-dev libssl-dev libseccomp-dev libspdlog-dev
libboost1.81-dev libboost-program-options1.81-dev"
