#!/bin/bash
# The wall between the daemon's parent (files, no byte from the network) and its front (network, no files): what the
# objects of each ask of the system and of our own libraries, and that neither knows the other.
#
#   wall.sh DAEMON.a PARENT.a FRONT.a   the archives of src/daemon, src/daemon/parent and src/daemon/front
#
# Prints every offence and exits 1 if there is one.
set -u
[ $# -eq 3 ] || { echo "usage: wall.sh DAEMON.a PARENT.a FRONT.a" >&2; exit 2; }
daemon=$1 parent=$2 front=$3
offences=0
offend() {
    echo "wall: $*"
    offences=$((offences + 1))
}
# What an archive needs from elsewhere, one a line: a function of ours without its arguments, or a name of C. A
# hardened build calls recv __recv_chk and open __open_2.
needs() {
    nm -uC "$1" 2>/dev/null | sed -n 's/^ *U //p' |
        sed -E 's/@.*//; s/\[abi:[^]]*\]//; s/\(.*//; s/^__([a-z0-9]+)_(chk|2)$/\1/' | sort -u
}
# forbid ARCHIVE WHAT-IT-IS PATTERN: no line of needs() may match the whole pattern.
forbid() {
    local name
    while read -r name; do offend "$(basename "$1") needs $name: $2"; done < <(needs "$1" | grep -xE "$3")
}
# allow ARCHIVE WHAT-IT-IS FAMILY ALLOWED: of the names that match FAMILY only those of ALLOWED.
allow() {
    local name
    while read -r name; do offend "$(basename "$1") needs $name: $2"; done < <(needs "$1" | grep -E "^$3" | grep -vxE "$4")
}
for archive in "$@"; do
    [ -n "$(needs "$archive")" ] || offend "$archive cannot be read"
done

# ---- neither knows the other, and what they share knows none of both ----

forbid "$daemon" "what both share knows none of them" 'curvegate::daemon::(parent|front)::.*'
forbid "$parent" "the parent gets front::run as a pointer" 'curvegate::daemon::front::.*'
forbid "$front" "the front knows the parent by messages" 'curvegate::daemon::parent::.*'

# ---- the parent: no event loop, no byte from the network ----

forbid "$daemon" "no event loop here" '.*boost::asio::.*'
forbid "$parent" "no event loop here" '.*boost::asio::.*'
# It opens sockets (socket, bind, listen) and gives them away. connect() asks whether a socket file is in use. What it
# hears comes by os::receive_message, from front, vault and look-ups, and by read(), from the signalfd.
forbid "$parent" "the parent takes nothing from the network" \
    'accept4?|recv|recvfrom|recvmsg|recvmmsg|readv|send|sendto|sendmsg|sendmmsg|getaddrinfo'
# Addresses and sockets to listen on, and the vault's process. Nothing of tunnels, workers and forwarders.
# look_up runs in a process that was forked for it.
allow "$parent" "the parent knows no tunnel" 'curvegate::(io|guard|vault_client|tunnel|forward|serve)::' \
    'curvegate::(io::(is_here|listen_tcp|now|open_udp|open_udp_endpoint|literal_address|look_up)|vault_client::(start_vault|end_vault|vault_answer))'
forbid "$parent" "the parent knows no handshake and no session" \
    'curvegate::(wire|session|stream|cookie|handshake|vault)::.*'

# ---- the front: no file, no program ----

# Not in the list, for an open descriptor that the parent gave: ftruncate, which cuts a torn line off the audit.
forbid "$front" "the front opens and changes no file, and starts no program" \
    'open|open64|openat|openat64|creat|creat64|fopen|fopen64|freopen|mkstemp|tmpfile|opendir|scandir|nftw|glob|access|faccessat|stat|stat64|lstat|lstat64|statx|readlink|realpath|rename|renameat|renameat2|unlink|unlinkat|remove|link|linkat|symlink|mkdir|rmdir|mknod|chmod|fchmodat|chown|lchown|fchownat|truncate|truncate64|utimensat|mount|chroot|chdir|dlopen|fork|vfork|clone|execve?|execvp?|posix_spawnp?|system|popen|socket|bind|listen|getaddrinfo|getgrnam|getpwnam|std::filesystem::.*|std::basic_[io]*fstream.*'
# Of our own functions on files and descriptors:
#   UniqueFd, fail_errno, send_message, receive_message   descriptors that are open, and words about errors
#   read_memory_file                                      the texts of a reload, which come as descriptors
#   SystemRandom                                          getrandom
#   harden_process, confine                               the sandbox: what makes this list true whatever the code says
#   keep_descriptors_back, kept_back, descriptor_limit    counting descriptors
allow "$front" "the front opens no file" 'curvegate::os::' \
    'curvegate::os::(UniqueFd::.*|fail_errno|send_message|receive_message|read_memory_file|SystemRandom::.*|harden_process|confine|keep_descriptors_back|kept_back|descriptor_limit)'

if [ $offences -ne 0 ]; then
    echo "wall: $offences offences"
    exit 1
fi
echo "wall: in order"
