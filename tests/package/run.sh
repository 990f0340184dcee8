#!/usr/bin/env bash
# Installs the package into two clean Debian roots, as README.Debian says, and runs tunnels between them. As root.
#   tests/package/run.sh [DEB]        default: the one in build/package, by packaging/package.sh
# Root A is a server with the vault under a uid of its own (curvegate-vault.service), root B a client whose daemon
# starts its vault (curvegate@.service). There is no systemd in the roots: what the units say is done by hand.
# Everything is in one folder and two network namespaces of its own and is removed at the end.
set -euo pipefail
cd "$(dirname "$0")/../.."
. packaging/need.sh
. tests/package/roots.sh
deb=$(find_deb "${1:-}")

a=$work/a b=$work/b
net_a=curvegate-a-$$ net_b=curvegate-b-$$
networks=("$net_a" "$net_b")

in_a() { ip netns exec "$net_a" unshare --mount --mount-proc="$a/proc" chroot "$a" "$@"; }
in_b() { ip netns exec "$net_b" unshare --mount --mount-proc="$b/proc" chroot "$b" "$@"; }
# in_root NET ROOT LOG COMMAND...: in the background; its pid is that of the command.
in_root() {
    local net=$1 root=$2 log=$3
    shift 3
    ip netns exec "$net" unshare --mount --mount-proc="$root/proc" chroot "$root" "$@" >"$work/$log.log" 2>&1 &
    started+=($!)
    last=$!
}
# wait_for LOG TEXT PID
wait_for() {
    local i
    for ((i = 0; i < 150; i++)); do
        if grep -q "$2" "$work/$1.log" 2>/dev/null; then return 0; fi
        kill -0 "$3" 2>/dev/null || fail "$1 ended before it said '$2'"
        sleep 0.1
    done
    fail "$1 did not say '$2' within 15 s"
}

step "a clean Debian, from this machine's apt source"
make_root "$a"

step "installing the package"
install_deb "$a"

step "what was installed"
same "package" "$(chroot "$a" dpkg-query -W -f '${db:Status-Status}' curvegate)" installed
same "conffiles outside of /etc" "$(chroot "$a" dpkg-query -W -f '${Conffiles}' curvegate | grep -cv '^ */etc/\|^$' || true)" 0
for place in "/run/curvegate 755 curvegate:curvegate" "/run/curvegate-vault 750 curvegate-vault:curvegate" "/etc/curvegate 755 root:root" "/etc/curvegate/keys 700 root:root" "/etc/curvegate/conf.d 755 root:root" \
    "/etc/curvegate/known_hosts 640 root:curvegate" "/var/lib/curvegate 750 curvegate:curvegate" \
    "/var/lib/curvegate-vault 700 curvegate-vault:curvegate"; do
    read -r path wanted <<<"$place"
    same "$path" "$(chroot "$a" stat -c '%a %U:%G' "$path")" "$wanted"
done
enabled=$(find "$a/etc/systemd/system" -name 'curvegate*' | wc -l)
same "units that were enabled" "$enabled" 0
for unit in curvegate.service curvegate-vault.service curvegate@.service curvegate.target; do
    [ -f "$a/lib/systemd/system/$unit" ] || fail "$unit is not there"
done
for program in curvegate curvegated curvegate-vault; do
    same "$program --version" "$(chroot "$a" "$program" --version)" "$program $(dpkg-deb -f "$deb" Version)"
done
cp -a "$a" "$b"

step "keys, peers and configurations, as README.Debian says"
ip netns add "$net_a"
ip netns add "$net_b"
ip -n "$net_a" link set lo up
ip -n "$net_b" link set lo up
ip -n "$net_a" link add tunnel type veth peer name tunnel netns "$net_b"
ip -n "$net_a" address add 192.0.2.1/24 dev tunnel
ip -n "$net_b" address add 192.0.2.2/24 dev tunnel
ip -n "$net_a" link set tunnel up
ip -n "$net_b" link set tunnel up
server_key=$(in_a curvegate keygen --role server -o /etc/curvegate/keys/server.key --state-dir /var/lib/curvegate-vault)
in_a chown -R curvegate-vault:curvegate /var/lib/curvegate-vault
in_b mkdir -m 750 /var/lib/curvegate/office
client_key=$(in_b curvegate keygen --role client -o /etc/curvegate/keys/office.client.key --state-dir /var/lib/curvegate/office)
in_b chown -R curvegate: /var/lib/curvegate/office
in_a curvegate peers add office "$client_key"
in_b curvegate peers add server.example "$server_key"
cat >"$a/etc/curvegate/curvegate.conf" <<'END'
vault       = unix:/run/curvegate-vault/vault.sock
known-hosts = /etc/curvegate/known_hosts

[echo]
accept  = curve_tun:192.0.2.1:4433
connect = 127.0.0.1:7000
allow   = office

[echo-udp]
accept  = curvecp:192.0.2.1:4433
connect = 127.0.0.1:7000
allow   = office

[nobody]
accept  = curve_tun:192.0.2.1:4434
connect = 127.0.0.1:7000
END
cat >"$b/etc/curvegate/office.conf" <<'END'
known-hosts = /etc/curvegate/known_hosts
state-dir   = /var/lib/curvegate/office

[echo]
client  = yes
accept  = 127.0.0.1:7001
connect = curve_tun:192.0.2.1:4433
peer    = server.example

[echo-udp]
client  = yes
accept  = 127.0.0.1:7002
connect = curvecp:192.0.2.1:4433
peer    = server.example

[nobody]
client  = yes
accept  = 127.0.0.1:7003
connect = curve_tun:192.0.2.1:4434
peer    = server.example
END

step "starting the vault and the daemons, with the units' users and credentials"
# credentials ROOT UID:GID SERVER-KEY CLIENT-KEY: what LoadCredential= and SetCredential= of the units make.
credentials() {
    local role source
    mkdir -p "$1/run/credentials"
    for role in server client; do
        source=$3
        if [ "$role" = client ]; then source=$4; fi
        if [ -f "$1/$source" ]; then cp "$1/$source" "$1/run/credentials/curvegate.$role-key"; else
            printf none >"$1/run/credentials/curvegate.$role-key"
        fi
    done
    chroot "$1" chown -R "$2" /run/credentials
    chmod 500 "$1/run/credentials"
    chmod 400 "$1/run/credentials"/*
}
# as USER GROUP COMMAND...: setpriv's words for it
as() {
    local user=$1 group=$2
    shift 2
    as_words=(setpriv --reuid "$user" --regid "$group" --init-groups --no-new-privs --bounding-set -all --inh-caps -all
        env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin CREDENTIALS_DIRECTORY=/run/credentials "$@")
}
ulimit -l "$(ulimit -H -l)"
credentials "$a" curvegate-vault:curvegate /etc/curvegate/keys/server.key /etc/curvegate/keys/client.key
credentials "$b" curvegate:curvegate /etc/curvegate/keys/office.server.key /etc/curvegate/keys/office.client.key
as curvegate-vault curvegate /usr/libexec/curvegate/start-vault
in_root "$net_a" "$a" vault "${as_words[@]}"
vault_pid=$last
for ((i = 0; i < 100; i++)); do if [ -S "$a/run/curvegate-vault/vault.sock" ]; then break; fi; sleep 0.1; done
same "vault.sock" "$(chroot "$a" stat -c '%a %U:%G' /run/curvegate-vault/vault.sock)" "660 curvegate-vault:curvegate"
as curvegate curvegate curvegated -c /etc/curvegate/curvegate.conf
in_root "$net_a" "$a" server "${as_words[@]}"
server_pid=$last
wait_for server ' ready ' "$server_pid"
as curvegate curvegate curvegated -c /etc/curvegate/office.conf
in_root "$net_b" "$b" client "${as_words[@]}"
client_pid=$last
wait_for client ' ready ' "$client_pid"
same "uid of the server's daemon" "$(stat -c %u "/proc/$server_pid")" "$(chroot "$a" id -u curvegate)"
same "uid of the vault" "$(awk '/^Uid:/ {print $2}' "/proc/$vault_pid/status")" "$(chroot "$a" id -u curvegate-vault)"

step "bytes through the tunnels"
ip netns exec "$net_a" python3 tests/package/echo.py serve 7000 >"$work/echo.log" 2>&1 &
started+=($!)
for ((i = 0; i < 50; i++)); do if ip netns exec "$net_a" ss -Hltn 'sport = :7000' | grep -q .; then break; fi; sleep 0.1; done
ip netns exec "$net_b" python3 tests/package/echo.py ask 7001 $((64 << 20)) || fail "over TCP"
ip netns exec "$net_b" python3 tests/package/echo.py ask 7002 $((64 << 20)) || fail "over UDP"
grep -q 'handshake_ok service=echo ' "$work/server.log" || fail "the server's log has no handshake_ok"
if ip netns exec "$net_b" python3 tests/package/echo.py ask 7003 1 >"$work/nobody.log" 2>&1; then
    fail "a service without allow let a client in"
fi
grep -q 'handshake_reject service=nobody ' "$work/server.log" || fail "the server's log has no handshake_reject"

step "ending"
kill -TERM "$client_pid" "$server_pid"
wait "$client_pid" || fail "the client ended with $?"
wait "$server_pid" || fail "the server ended with $?"
kill -TERM "$vault_pid"
wait "$vault_pid" || fail "the vault ended with $?"

step "purging"
in_plain "$a" "${apt[@]}" purge curvegate >>"$work/apt.log" 2>&1 || fail "apt-get purge"
[ ! -e "$a/usr/sbin/curvegated" ] || fail "curvegated is still there"
[ -s "$a/etc/curvegate/keys/server.key" ] || fail "purging took the key away"
[ ! -e "$a/var/lib/curvegate" ] || fail "purging left an empty folder"

step "packaging/need.sh leaves no service behind that starts with the machine"
mkdir "$a/packaging"
cp packaging/need.sh "$a/packaging"
starts_at_boot() { find "$a/etc/systemd/system" "$a"/etc/rc[2-5].d -type l ! -name 'K*' 2>/dev/null | sort; }
before=$(starts_at_boot)
in_plain "$a" bash -euo pipefail -c '. /packaging/need.sh; need nginx stunnel4' >"$work/need.log" 2>&1 || fail "need nginx stunnel4"
same "nginx" "$(chroot "$a" dpkg-query -W -f '${db:Status-Status}' nginx)" installed
same "services that start with the machine" "$(starts_at_boot)" "$before"
step "good, after $((SECONDS - began)) s"
