#!/usr/bin/env bash
# One command: installs what is missing, builds, and sends a real file through real tunnels, over TCP and over UDP.
#   ./demo.sh          shows it and cleans up
#   ./demo.sh --lossy  UDP goes through a bad network: 1% of the packets lost, 10 ms each way
#   ./demo.sh --keep   leaves it running and prints what to try
set -euo pipefail
cd "$(dirname "$0")"
. packaging/need.sh

keep=no
lossy=no
for option in "$@"; do
    case "$option" in
        --keep) keep=yes ;;
        --lossy) lossy=yes ;;
        *) echo "usage: ./demo.sh [--lossy] [--keep]" >&2; exit 64 ;;
    esac
done

work=
pids=()
clean_up() {
    local status=$?
    if [ "$keep" = yes ] && [ "$status" = 0 ]; then return; fi
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    if [ "$status" != 0 ] && [ -n "$work" ]; then
        tail -n 20 "$work"/*.log >&2 2>/dev/null || true
    fi
    if [ -n "$work" ]; then rm -rf "$work"; fi
}
trap clean_up EXIT

free_port() {
    local port
    while :; do
        port=$((12000 + RANDOM % 20000)) # below those that the kernel gives to outgoing connections
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

wait_for_port() {
    local i
    for i in $(seq 100); do
        (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
        sleep 0.1
    done
    die "nothing answers on port $1"
}

wait_for_line() {
    local i
    for i in $(seq 100); do
        grep -q "$1" "$2" && return
        sleep 0.1
    done
    die "no line \"$1\" in $2"
}

# shellcheck disable=SC2086 # a list of words
need $build_packages busybox curl python3

say "building (release)"
cmake --preset release --log-level=ERROR
cmake --build --preset release --target curvegated curvegate curvegate-vault
bin=$PWD/build/release/bin

say "making two identities, and a third that nobody knows"
work=$(mktemp -d)
mkdir "$work/server" "$work/client" "$work/stranger" "$work/www"
for who in server client stranger; do
    role=client
    if [ "$who" = server ]; then role=server; fi
    "$bin/curvegate" keygen --role "$role" -o "$work/$who/key" >"$work/$who/public"
    echo "$who: $(cat "$work/$who/public")"
done
"$bin/curvegate" peers add alice "$(cat "$work/client/public")" --known-hosts "$work/server/known_hosts"
for who in client stranger; do
    "$bin/curvegate" peers add files.example "$(cat "$work/server/public")" --known-hosts "$work/$who/known_hosts"
done

http=$(free_port) tunnel=$(free_port) local=$(free_port) stranger=$(free_port) local_udp=$(free_port)
network=$tunnel # where the client's packets go: to the server, or into a bad network that leads there
if [ "$lossy" = yes ]; then network=$(free_port); fi
cat >"$work/server/curvegate.conf" <<CONF
server-key  = $work/server/key
known-hosts = $work/server/known_hosts
control     = $work/server/control.sock

[files]
accept  = curve_tun:127.0.0.1:$tunnel
connect = 127.0.0.1:$http
allow   = alice

[files-udp]
accept  = curvecp:127.0.0.1:$tunnel
connect = 127.0.0.1:$http
allow   = alice
CONF
client_conf() {
    cat >"$work/$1/curvegate.conf" <<CONF
client-key  = $work/$1/key
known-hosts = $work/$1/known_hosts
control     = $work/$1/control.sock

[files-from-here]
client  = yes
accept  = 127.0.0.1:$2
connect = curve_tun:127.0.0.1:$tunnel
peer    = files.example
CONF
}
client_conf client "$local"
client_conf stranger "$stranger"
cat >>"$work/client/curvegate.conf" <<CONF

[files-udp]
client  = yes
accept  = 127.0.0.1:$local_udp
connect = curvecp:127.0.0.1:$network
peer    = files.example
CONF

start() {
    "$bin/curvegated" -c "$work/$1/curvegate.conf" >"$work/$1.log" 2>&1 &
    pids+=($!)
}

say "serving a directory over HTTP on port $http, tunnelled from port $local by way of port $tunnel"
head -c 268435456 /dev/urandom >"$work/www/256MiB"
echo 'hello through the tunnel' >"$work/www/index.html"
busybox httpd -f -p "127.0.0.1:$http" -h "$work/www" >"$work/http.log" 2>&1 &
pids+=($!)
start server
start client
wait_for_port "$http"
wait_for_line " ready " "$work/server.log"
wait_for_line " ready " "$work/client.log"

fetch() { # PORT FILE
    local rate sent got
    rate=$(curl --silent --show-error --fail --output "$work/copy" --write-out '%{speed_download}' "http://127.0.0.1:$1/$2")
    sent=$(sha256sum <"$work/www/$2")
    got=$(sha256sum <"$work/copy")
    echo "sent     ${sent%% *}"
    echo "received ${got%% *}"
    [ "$sent" = "$got" ] || die "the files differ"
    echo "the same $2, at $((${rate%.*} / 1000)) KB/s through the tunnel"
}
fetch "$local" 256MiB

if [ "$lossy" = yes ]; then
    say "over UDP, through a relay that loses 1% of the packets and holds each for 10 ms"
    python3 tests/e2e/udp_relay.py --listen "$network" --to "127.0.0.1:$tunnel" --loss 0.01 --delay-ms 10 --seed 1 >"$work/relay.log" 2>&1 &
    pids+=($!)
    head -c 8388608 "$work/www/256MiB" >"$work/www/8MiB"
    fetch "$local_udp" 8MiB
    # 1460 bytes / 20 ms * sqrt(3/2) / sqrt(0.01): Mathis, Semke, Mahdavi, Ott, "The macroscopic behavior of TCP", 1997
    echo "(to compare: TCP with classic congestion control would carry about 900 KB/s over such a line)"
else
    say "the same over UDP, by the same port number"
    fetch "$local_udp" 256MiB
fi

say "a stranger with a key of his own tries the same"
start stranger
wait_for_line " ready " "$work/stranger.log"
if curl --silent --fail --max-time 10 --output /dev/null "http://127.0.0.1:$stranger/256MiB"; then
    die "the stranger was let in"
fi
wait_for_line handshake_reject "$work/server.log"
echo "he gets nothing; the server's log says why:"
grep -m 1 handshake_reject "$work/server.log"

if [ "$keep" = yes ]; then
    [ "$(curl -sS "http://127.0.0.1:$local/")" = "hello through the tunnel" ] || die "no greeting comes through the tunnel"
    say "left running; try"
    cat <<TEXT
  curl -sS http://127.0.0.1:$local/
  $bin/curvegate probe files-from-here -c $work/client/curvegate.conf
  $bin/curvegate check -c $work/server/curvegate.conf --peer alice --service files
  $bin/curvegate status -c $work/server/curvegate.conf
  tail -n 5 $work/server.log
  $bin/curvegate revoke alice -c $work/server/curvegate.conf
and stop it with
  kill ${pids[*]}; rm -rf $work
TEXT
    disown -a
fi
say "done"
