#!/usr/bin/env bash
# Installs the package into a clean Debian root, boots systemd there in namespaces of its own, and tries the units:
# users, credentials, sandbox, reload, status, revoke, restart of the vault, target, stop, removal. As root.
#   tests/package/boot.sh [DEB]       default: the one in build/package, by packaging/package.sh
# It needs a mounted cgroup2 in which it may make a group; without one it says so and is skipped.
set -euo pipefail
cd "$(dirname "$0")/../.."
. packaging/need.sh
cgroup2=$(findmnt -n -o TARGET -t cgroup2 | head -n 1 || true)
if [ -z "$cgroup2" ] || ! mkdir "$cgroup2/curvegate-package-$$"; then
    echo "SKIPPED: no cgroup2 in which a group can be made, so systemd cannot be booted here" >&2
    exit 0
fi
group=$cgroup2/curvegate-package-$$
. tests/package/roots.sh
groups=("$group")
deb=$(find_deb "${1:-}")
root=$work/root

step "a clean Debian with the package"
make_root "$root"
install_deb "$root"
rm "$root/usr/sbin/policy-rc.d"
cp "$deb" "$root/root/curvegate.deb"

step "booting"
cat >"$work/init" <<'END'
# In namespaces of its own: makes the root a machine and becomes its systemd. $1 is the root.
set -e
mount --make-rprivate /
hostname curvegate-package
ip link set lo up
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
mount -t sysfs -o ro sysfs "$1/sys"
mount -t cgroup2 cgroup2 "$1/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$1/dev"
for device in null zero full random urandom tty; do
    touch "$1/dev/$device"
    mount --bind "/dev/$device" "$1/dev/$device"
done
mkdir "$1/dev/shm" "$1/dev/pts"
ln -s /proc/self/fd "$1/dev/fd"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$1/dev/pts"
ln -s pts/ptmx "$1/dev/ptmx"
mount -t tmpfs -o mode=755 tmpfs "$1/run"
mount -t tmpfs tmpfs "$1/tmp"
cd "$1"
mkdir -p old
pivot_root . old
umount -l /old
# Credentials are mounted by a child of systemd and reach the services by propagation.
mount --make-rshared /
exec env -i container=curvegate-package PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
    /lib/systemd/systemd --system --unit=basic.target --show-status=no
END
(
    echo 0 >"$group/cgroup.procs"
    exec unshare --cgroup --pid --fork --kill-child --mount --uts --ipc --net bash "$work/init" "$root"
) >"$work/boot.log" 2>&1 </dev/null &
started+=($!)
unshare_pid=$!
machine=0
for ((i = 0; i < 100 && machine == 0; i++)); do
    machine=$(cat "/proc/$unshare_pid/task/$unshare_pid/children" 2>/dev/null || true)
    machine=${machine%% *}
    [ -n "$machine" ] || { machine=0; sleep 0.1; }
done
[ "${machine:-0}" != 0 ] || fail "the namespaces were not made"
in_machine() { nsenter -t "$machine" -m -u -i -n -p -C --wdns=/ "$@"; }
on_its_network() { nsenter -t "$machine" -n "$@"; }
for ((i = 0; i < 150; i++)); do
    state=$(in_machine systemctl is-system-running 2>/dev/null || true)
    if [ "$state" = running ] || [ "$state" = degraded ]; then break; fi
    sleep 0.2
done
case "$state" in running | degraded) ;; *) fail "systemd is '$state' after 30 s" ;; esac

step "keys and configurations, as README.Debian says"
server_key=$(in_machine curvegate keygen --role server -o /etc/curvegate/keys/server.key --state-dir /var/lib/curvegate-vault)
in_machine chown -R curvegate-vault:curvegate /var/lib/curvegate-vault
in_machine mkdir -m 750 /var/lib/curvegate/office
client_key=$(in_machine curvegate keygen --role client -o /etc/curvegate/keys/office.client.key --state-dir /var/lib/curvegate/office)
in_machine chown -R curvegate: /var/lib/curvegate/office
in_machine curvegate peers add office "$client_key"
in_machine curvegate peers add localhost "$server_key"
cat >"$root/etc/curvegate/curvegate.conf" <<'END'
vault       = unix:/run/curvegate-vault/vault.sock
known-hosts = /etc/curvegate/known_hosts
control     = /run/curvegate/control.sock
metrics     = unix:/run/curvegate/metrics.sock
audit       = /var/log/curvegate/audit
audit-required    = no
max-session       = 1d
sessions          = 4096
half-open         = 4096
sessions-per-peer = 200
[echo]
accept  = curve_tun:127.0.0.1:4433
connect = 127.0.0.1:7000
allow   = office
[echo-udp]
accept  = curvecp:127.0.0.1:4433
connect = 127.0.0.1:7000
allow   = office
END
cat >"$root/etc/curvegate/office.conf" <<'END'
known-hosts = /etc/curvegate/known_hosts
state-dir   = /var/lib/curvegate/office
[echo]
client  = yes
accept  = 127.0.0.1:7001
connect = curve_tun:localhost:4433
[echo-udp]
client  = yes
accept  = 127.0.0.1:7002
connect = curvecp:localhost:4433
END
units=(curvegate.service curvegate-vault.service curvegate@office.service)
step "starting the units"
# states WANTED: of all units and the target
states() {
    local found
    found=$({ in_machine systemctl is-active curvegate.target "${units[@]}" || true; } | sort | uniq -c | awk '{print $1, $2}')
    [ "$found" = "4 $1" ] || {
        in_machine journalctl --no-pager -b -o cat -u 'curvegate*' | tail -n 30 >&2
        fail "the units are $found, want 4 $1"
    }
}
in_machine systemctl enable --quiet --now curvegate.target curvegate curvegate@office 2>"$work/enable.log" || fail "systemctl enable --now"
states active
for unit in "${units[@]}"; do
    pid=$(in_machine systemctl show -p MainPID --value "$unit")
    found=$(in_machine awk '/^(NoNewPrivs|CapBnd|CapEff|Seccomp):/ {print $2}' "/proc/$pid/status" | paste -sd ' ')
    same "$unit: capabilities, no_new_privs, seccomp" "$found" "0000000000000000 0000000000000000 1 2"
done

step "bytes through the units' tunnels, over TCP and UDP"
on_its_network python3 tests/package/echo.py serve 7000 >"$work/echo.log" 2>&1 &
started+=($!)
ask() { # PORT: until it succeeds or 10 s are over
    local i
    for ((i = 0; i < 20; i++)); do
        if on_its_network python3 tests/package/echo.py ask "$1" $((8 << 20)) 2>"$work/ask.log"; then return 0; fi
        sleep 0.5
    done
    in_machine journalctl --no-pager -b -o cat -u 'curvegate*' | tail -n 30 >&2
    fail "no bytes through port $1"
}
ask 7001
ask 7002

step "reload"
in_machine test ! -e /bin/kill || fail "/bin/kill is there, which a small machine lacks"
in_machine systemctl reload curvegate curvegate@office || fail "systemctl reload"
journal_says() { # UNIT TEXT: until it does or 10 s are over
    local i
    for ((i = 0; i < 50; i++)); do
        if in_machine journalctl --no-pager -b -o cat -u "$1" | grep -q "$2"; then return 0; fi
        sleep 0.2
    done
    fail "the journal of $1 does not say '$2'"
}
for unit in curvegate curvegate@office; do journal_says "$unit" ' reloaded '; done
echo 'alow = office' >>"$root/etc/curvegate/curvegate.conf"
if in_machine systemctl reload curvegate 2>"$work/reload.log"; then fail "a reload of a wrong configuration succeeds"; fi
journal_says curvegate 'alow'
sed -i '$d' "$root/etc/curvegate/curvegate.conf"
in_machine systemctl reload curvegate || fail "a reload after the configuration was mended"
states active
ask 7001

step "the layout passes the check-list for production"
in_machine curvegate check --production --dial >"$work/production.log" 2>&1 ||
    fail "check --production: $(grep ': NO' "$work/production.log")"
same "what is not met" "$(grep -v '^13 \|^9 \|^19 ' "$work/production.log" | grep -c ': NO' || true)" 0 # disk, kernel, clock: the machine's
for item in 2 3 6 7 31 32; do
    grep -q "^$item [a-z-]*: ok\$" "$work/production.log" || fail "$(grep "^$item " "$work/production.log")"
done

step "status and revoke, over the control socket"
in_machine curvegate status >"$work/status.log" || fail "curvegate status"
grep -q '^office ' "$work/status.log" || fail "curvegate status does not name the peer"
in_machine curvegate peers add guest "$(in_machine curvegate keygen --role client -o /root/guest.key)"
in_machine curvegate reload >"$work/reload.log" || fail "curvegate reload"
in_machine curvegate revoke guest >"$work/revoke.log" 2>&1 || fail "curvegate revoke, by root"
same "revoked peers" "$(grep -c '^@revoked guest' "$root/etc/curvegate/known_hosts")" 1

step "a restart of the vault, and of all by the target"
in_machine systemctl restart curvegate-vault.service
ask 7001
in_machine systemctl restart curvegate.target
states active
ask 7002
in_machine systemctl stop curvegate.target
states inactive

step "removal stops what runs"
in_machine systemctl start curvegate.target
states active
in_machine apt-get -qq --yes -o Dpkg::Use-Pty=0 remove curvegate >"$work/remove.log" 2>&1 || fail "apt-get remove"
same "processes left" "$(in_machine sh -c 'cat /proc/[0-9]*/comm' | grep -c '^curvegate' || true)" 0
in_machine test -s /etc/curvegate/keys/server.key || fail "removal took the key away"
step "good, after $((SECONDS - began)) s"
