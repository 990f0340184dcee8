#!/bin/bash
# Which folder may include what (docs/DESIGN.md "The tree"), and what the core asks of the system: nothing.
#
#   check.sh CORE-ALONE ARCHIVE...   the program of core_alone.cpp and the archives that it links
#
# Prints every offence and exits 1 if there is one. SOURCE_ROOT names another tree than this script's.
set -u
root=${SOURCE_ROOT:-$(cd "$(dirname "$0")/../.." && pwd)}
cd "$root" || exit 1
offences=0
offend() {
    echo "layering: $*"
    offences=$((offences + 1))
}

# ---- 1. which folder may include which of our headers ----

# folder, or a file of it: folders whose headers it may include, beside its own, or one header without its ending.
# "vault" means all below it.
rules='
src/base:
src/crypto: base
src/wire: base crypto
src/session: base crypto wire
src/stream: base wire
src/cookie: base crypto wire
src/text: base crypto
src/registry: base crypto text
src/service: base crypto wire registry curvegate
vault/protocol: base crypto
src/handshake: base crypto service wire cookie vault/protocol
src/handshake/curve_tun: base crypto service wire session cookie handshake vault/protocol
src/handshake/curvecp: base crypto service wire session cookie handshake vault/protocol
src/status: base
src/audit: base crypto status
src/os: base
src/log: base os
src/guard: base crypto service
src/io: base crypto wire stream guard os log
src/vault_client: base crypto vault/protocol os io
src/tunnel: base crypto service cookie stream handshake vault/protocol guard os io vault_client
src/tunnel/curve_tun: base crypto service wire session cookie handshake handshake/curve_tun vault/protocol guard io vault_client tunnel
src/wires: service tunnel tunnel/curve_tun tunnel/curvecp
src/tunnel/curvecp: base crypto service wire session stream cookie handshake handshake/curvecp vault/protocol guard os log io vault_client tunnel
src/forward: base crypto service guard io tunnel
src/serve: base crypto service wire cookie registry handshake vault/protocol guard os log io vault_client tunnel forward
src/channel: base crypto service wire session cookie registry handshake guard os io vault_client tunnel wires curvegate
src/config: base crypto text registry service
src/daemon: base audit config os registry service
src/daemon/main.cpp: base config crypto log os daemon daemon/parent daemon/front
src/daemon/parent: base config service crypto daemon log os registry io/clock io/listen io/look_up vault_client/vault_process
src/daemon/front: base audit text config service crypto daemon log io guard tunnel forward serve os registry status wires
src/cli: base crypto text wire session cookie registry service handshake vault audit os log guard io vault_client tunnel tunnel/curve_tun tunnel/curvecp wires forward serve channel config curvegate
vault: base crypto registry os
include/curvegate: curvegate
docs/examples: curvegate
'
sources_in() {  # of a folder, not of the folders below it
    find "$1" -maxdepth 1 \( -name '*.cpp' -o -name '*.hpp' \) | sort
}
has_own_rule() {  # file
    [ -f "$1" ] && grep -q "^$1:" <<< "$rules"
}
while IFS=: read -r folder allowed; do
    [ -n "$folder" ] || continue
    if [ ! -e "$folder" ]; then
        offend "$folder is in the rules and not in the tree"
        continue
    fi
    own=${folder#src/}
    own=${own#include/}
    for file in $(sources_in "$folder"); do
        [ "$file" != "$folder" ] && has_own_rule "$file" && continue
        for header in $(sed -n 's/^ *# *include *"\([^"]*\)".*/\1/p' "$file"); do
            from=${header%/*}  # the folder
            ok=no
            for one in $own $allowed; do
                [ "$from" = "$one" ] && ok=yes
                [ "${header%.hpp}" = "$one" ] && ok=yes
                [ "$one" = vault ] && [ "$from" = vault/protocol ] && ok=yes
            done
            [ $ok = yes ] || offend "$file includes $header"
        done
    done
done <<< "$rules"
# A new folder needs a rule.
for folder in src/*/ src/*/*/ vault/ vault/*/; do
    folder=${folder%/}
    grep -q "^$folder:" <<< "$rules" || offend "$folder has no rule in check.sh"
done

# What a folder must not speak of, but in comments: a wire that is not its own.
knows_nothing_of() {  # folder, words
    local folder=$1 word hits file
    shift
    for file in $(sources_in "$folder"); do
        for word in "$@"; do
            hits=$(sed 's://.*::' "$file" | grep -n "$word")
            [ -z "$hits" ] || offend "$file speaks of $word: ${hits//$'\n'/; }"
        done
    done
}
knows_nothing_of src/handshake curve_tun curvecp
knows_nothing_of src/handshake/curve_tun curvecp
knows_nothing_of src/tunnel curve_tun curvecp
knows_nothing_of src/tunnel/curve_tun curvecp
knows_nothing_of src/tunnel/curvecp curve_tun
knows_nothing_of src/forward curve_tun curvecp
knows_nothing_of src/serve curve_tun curvecp
knows_nothing_of src/handshake/curvecp curve_tun

# ---- 2. what no part of the core may use ----

core="src/base src/text src/status src/audit src/crypto src/wire src/session src/stream src/cookie src/registry src/service
      src/handshake src/handshake/curve_tun src/handshake/curvecp vault/protocol"
# The vault's core: what vault/CMakeLists.txt makes curvegate_vault_core of, and its headers.
vault_core="vault/counter_slot vault/key_seal vault/key_text vault/nonce_counter vault/nonce_source
            vault/permissions vault/queue vault/rate_limit vault/rotation_state vault/service vault/shared_keys"
core_files=$(for folder in $core; do sources_in "$folder"; done
             for name in $vault_core; do find vault -maxdepth 1 -name "${name#vault/}.[ch]pp"; done)

# base/ip.cpp needs inet_pton and inet_ntop, registry/dates.cpp snprintf: those only read and write text.
# crypto/poly1305_openssl.cpp keeps OpenSSL's working memory for a thread.
exempt() {
    case "$1:$2" in
        src/crypto/poly1305_openssl.cpp:cstdlib | src/crypto/poly1305_openssl.cpp:openssl/*) return 0 ;;
        src/base/ip.cpp:arpa/inet.h | src/registry/dates.cpp:cstdio) return 0 ;;
    esac
    return 1
}
allowed_system='algorithm|array|bit|bitset|cctype|charconv|chrono|cmath|compare|concepts|cstddef|cstdint|cstring|deque|expected|functional|initializer_list|iterator|limits|map|memory|new|numeric|optional|ranges|set|span|string|string_view|tuple|type_traits|unordered_map|unordered_set|utility|variant|vector|sodium.h'
for file in $core_files; do
    for header in $(sed -n 's/^ *# *include *<\([^>]*\)>.*/\1/p' "$file"); do
        grep -qxE "$allowed_system" <<< "$header" || exempt "$file" "$header" || offend "$file includes <$header>"
    done
    # Comments may speak of what code may not do.
    [ "$file" = src/crypto/poly1305_openssl.cpp ] && continue
    hits=$(sed 's://.*::' "$file" |
        grep -nE '(system|steady|high_resolution|utc)_clock::now|getrandom|getentropy|randombytes|random_device|\b(std::)?(cout|cerr|clog)\b|spdlog|\basio\b|thread_local|std::(thread|jthread|mutex|atomic)\b')
    [ -z "$hits" ] || offend "$file uses ${hits//$'\n'/; }"
done

# What keeps strangers within bounds is shared by threads, so it has locks; for the rest it is like the core.
for file in $(sources_in src/guard); do
    hits=$(sed 's://.*::' "$file" |
        grep -nE '(system|steady|high_resolution|utc)_clock::now|getrandom|random_device|\b(std::)?(cout|cerr|clog)\b|spdlog|\basio\b|std::j?thread\b|<(sys|netinet|arpa)/')
    [ -z "$hits" ] || offend "$file uses ${hits//$'\n'/; }"
done

# A section of PROTOCOL.md that the code names must be there.
for section in $(grep -rhoE 'PROTOCOL [0-9]+(\.[0-9]+)*' src vault include tests/unit tests/fsm tests/net fuzz | cut -d' ' -f2 | sort -u); do
    grep -qE "^#+ ${section//./\\.} " PROTOCOL.md || offend "PROTOCOL $section is named in the code, and PROTOCOL.md has no such section"
done

# ---- 3. who holds dangerous headers ----

only_in() {  # header pattern, what it is, folders that may
    local pattern=$1 place ok file
    shift
    for file in $(grep -rlE "^ *# *include *[<\"]$pattern[>\"]" src vault include docs/examples); do
        ok=no
        for place in "$@"; do
            case "$file" in "$place"/*) ok=yes ;; esac
        done
        [ $ok = yes ] || offend "$file includes $pattern"
    done
}
only_in 'sodium\.h' src/crypto vault
only_in 'openssl/.*' src/crypto
only_in 'crypto/secret_bytes\.hpp' src/crypto vault
only_in 'spdlog/.*' src/log
only_in 'boost/asio.*' src/io src/vault_client src/tunnel src/forward src/serve src/channel src/daemon/front src/cli include docs/examples

# ---- 4. what the core's objects ask of the system ----

if [ $# -gt 1 ]; then
    program=$1
    shift
    denied='socket|socketpair|connect|bind|listen|accept4?|send|sendto|sendmsg|sendmmsg|recv|recvfrom|recvmsg|recvmmsg|shutdown|getaddrinfo|open|open64|openat|openat64|fopen|fopen64|creat|read|write|readv|writev|pread|pwrite|mmap|mmap64|munmap|mprotect|madvise|mlock|munlock|sysconf|unlink|rename|fsync|fdatasync|stat|poll|ppoll|select|epoll_.*|pthread_(create|mutex_.*|cond_.*|rwlock_.*)|fork|vfork|execve?|posix_spawn|getrandom|getentropy|randombytes.*|rand|srand|random|clock_gettime|clock_nanosleep|nanosleep|sleep|usleep|gettimeofday|time|localtime(_r)?|getenv|signal|sigaction|syslog|printf|puts|_ZNSt6chrono3_V21[12](system|steady)_clock3nowEv|_ZSt4c(out|err|log)|_ZNSt13random_device.*|_ZNSt6thread.*|_ZNSt14basic_[io]*fstream.*|_ZN5boost.*|_ZN6spdlog.*'
    plain='s/@.*//; s/^__([a-z0-9]+)_(chk|2)$/\1/'  # a hardened build calls read __read_chk and open __open_2
    # Not what one of our objects gives another: only what is undefined and defined nowhere among them.
    for archive in "$@"; do
        [ -f "$archive" ] || { offend "$archive does not exist"; continue; }
        for symbol in $(nm -u "$archive" 2>/dev/null | awk '$1 == "U" {print $2}' | sed -E "$plain" | sort -u); do
            grep -qxE "$denied" <<< "$symbol" && offend "$(basename "$archive") needs ${symbol}"
        done
    done
    "$program" || offend "the core alone does not shake hands"
fi

if [ $offences -ne 0 ]; then
    echo "layering: $offences offences"
    exit 1
fi
echo "layering: in order"
