# bash completion for curvegate, curvegated and curvegate-vault                              -*- shell-script -*-
# The tables come from the programs' own --help: docs/documents.py --update writes them.

# generated: tables (docs/documents.py)
_curvegate_verbs='keygen import pubkey fingerprint peers check counter probe connect run status reload revoke drain rotate audit events --help --version'
declare -gA _curvegate_subverbs=(
    [peers]='list add remove revoke'
    [counter]='init'
    [rotate]='start switch finish cancel status'
    [audit]='verify'
)
declare -gA _curvegate_options=(
    [keygen]='-h --help --role -o --output --state-dir --passphrase'
    [import]='-h --help --role -o --output --state-dir'
    [pubkey]='-h --help --format'
    [fingerprint]='-h --help'
    [peers]='-h --help --known-hosts --from --valid-until --comment'
    [check]='-h --help -c --config --peer --service --address -v --verbose --production --dial'
    [counter]='-h --help -c --config'
    [probe]='-h --help -c --config'
    [connect]='-h --help -c --config'
    [run]='-h --help -c --config'
    [status]='-h --help -c --config --socket --json -w --watch'
    [reload]='-h --help -c --config --socket'
    [revoke]='-h --help -c --config --socket'
    [drain]='-h --help -c --config --socket'
    [rotate]='-h --help --generate --compromised --json -c --config --socket'
    [audit]='-h --help'
    [events]='-h --help -c --config --socket'
    [curvegated]='-c --config -h --help -V --version'
    [curvegate-vault]='--server-key --client-key --known-hosts --state-dir --passphrase-file --sandbox --lock-memory --descriptors --listen --allow-uid --control --help --version'
)
declare -gA _curvegate_values=(
    ['keygen --role']='server client'
    ['keygen -o']='FILE'
    ['keygen --output']='FILE'
    ['keygen --state-dir']='DIR'
    ['import --role']='server client'
    ['import -o']='FILE'
    ['import --output']='FILE'
    ['import --state-dir']='DIR'
    ['pubkey --format']='base64 hex z85'
    ['peers --known-hosts']='FILE'
    ['peers --from']='CIDR'
    ['peers --valid-until']='DATE'
    ['peers --comment']='TEXT'
    ['check -c']='FILE'
    ['check --config']='FILE'
    ['check --peer']='P'
    ['check --service']='S'
    ['check --address']='IP'
    ['counter -c']='FILE'
    ['counter --config']='FILE'
    ['probe -c']='FILE'
    ['probe --config']='FILE'
    ['connect -c']='FILE'
    ['connect --config']='FILE'
    ['run -c']='FILE'
    ['run --config']='FILE'
    ['status -c']='FILE'
    ['status --config']='FILE'
    ['status --socket']='PATH'
    ['reload -c']='FILE'
    ['reload --config']='FILE'
    ['reload --socket']='PATH'
    ['revoke -c']='FILE'
    ['revoke --config']='FILE'
    ['revoke --socket']='PATH'
    ['drain -c']='FILE'
    ['drain --config']='FILE'
    ['drain --socket']='PATH'
    ['rotate -c']='FILE'
    ['rotate --config']='FILE'
    ['rotate --socket']='PATH'
    ['events -c']='FILE'
    ['events --config']='FILE'
    ['events --socket']='PATH'
    ['curvegated -c']='FILE'
    ['curvegated --config']='FILE'
    ['curvegate-vault --server-key']='FILE'
    ['curvegate-vault --client-key']='FILE'
    ['curvegate-vault --known-hosts']='FILE'
    ['curvegate-vault --state-dir']='DIR'
    ['curvegate-vault --passphrase-file']='FILE'
    ['curvegate-vault --sandbox']='require try'
    ['curvegate-vault --lock-memory']='require try'
    ['curvegate-vault --descriptors']='N'
    ['curvegate-vault --listen']='PATH'
    ['curvegate-vault --allow-uid']='UID'
    ['curvegate-vault --control']='PATH'
)
# end of tables

# The configuration that the line names, or the usual one.
_curvegate_config() {
    local i
    for ((i = 1; i < cword; i++)); do
        if [[ ${words[i]} == -c || ${words[i]} == --config ]]; then
            printf '%s\n' "${words[i + 1]}"
            return
        fi
    done
    if [[ $EUID == 0 ]]; then echo /etc/curvegate/curvegate.conf; else echo ~/.config/curvegate/curvegate.conf; fi
}

_curvegate_sections() {
    sed -n 's/^[[:space:]]*\[\([^]]*\)\].*/\1/p' "$(_curvegate_config)" 2>/dev/null
}

_curvegate_peers() {
    local file
    file=$(sed -n 's/^[[:space:]]*known-hosts[[:space:]]*=[[:space:]]*\([^[:space:]]*\).*/\1/p' \
        "$(_curvegate_config)" 2>/dev/null | head -n 1)
    sed -n '/^[[:space:]]*#/d; s/^\(.*[[:space:]]\)\{0,1\}\([^[:space:]#]*\)[[:space:]]\{1,\}curve25519[[:space:]].*/\2/p' \
        "${file:-/etc/curvegate/known_hosts}" 2>/dev/null | tr ',' '\n'
}

# _curvegate_fill KIND: what a value of this kind may be.
_curvegate_fill() {
    case $1 in
        FILE | PATH | KEY) _filedir ;;
        DIR) _filedir -d ;;
        P) mapfile -t COMPREPLY < <(compgen -W "$(_curvegate_peers)" -- "$cur") ;;
        S | SERVICE) mapfile -t COMPREPLY < <(compgen -W "$(_curvegate_sections)" -- "$cur") ;;
        UID) mapfile -t COMPREPLY < <(compgen -W "$(cut -d: -f3 /etc/passwd)" -- "$cur") ;;
        *[[:lower:]]*) mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur") ;;
    esac
}

_curvegate() {
    local cur prev words cword
    _init_completion -n = || return
    local table=${1##*/} first=1
    if [[ $table == curvegate ]]; then
        if ((cword == 1)); then
            mapfile -t COMPREPLY < <(compgen -W "$_curvegate_verbs" -- "$cur")
            return
        fi
        table=${words[1]}
        first=2
    fi
    local value=${_curvegate_values["$table $prev"]-}
    if [[ -n $value ]]; then
        _curvegate_fill "$value"
    elif [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "${_curvegate_options["$table"]-}" -- "$cur")
    elif ((cword == first)) && [[ -n ${_curvegate_subverbs["$table"]-} ]]; then
        mapfile -t COMPREPLY < <(compgen -W "${_curvegate_subverbs["$table"]}" -- "$cur")
    else
        case "$table ${words[2]}" in
            "peers remove" | "peers revoke" | "revoke "*) _curvegate_fill P ;;
            "probe "* | "connect "*) _curvegate_fill SERVICE ;;
            "pubkey "* | "fingerprint "*) _curvegate_fill FILE ;;
        esac
    fi
}

complete -F _curvegate curvegate curvegated curvegate-vault
