# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What run-demo.sh and run-tests.sh share: from a bare Debian machine to a venv and a Docker engine,
# and back. Nothing is done twice: commands, a venv and an engine that are there already are used.
#
# CONTAINER_STACK_WORK           everything that is kept between runs (default below); delete it freely
# CONTAINER_STACK_DOCKERD_ARGS   more arguments for a dockerd that must be started
# DOCKER_HOST                    the engine to use (default unix:///var/run/docker.sock)
# pip and apt are taken as the machine has them set up: pip.conf, PIP_* variables, proxies, sources.

set -euo pipefail
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
# Not below a home: a service's own user must be able to run what lies here, and only root to write it.
WORK=${CONTAINER_STACK_WORK:-/var/cache/container-stack-dev}
VENV=$WORK/venv
# The engine's usual place: rootwrap's filters know containers' network namespaces by it.
ENGINE_RUN=/run/docker

say() { printf '[%4ds] %s\n' "$SECONDS" "$*"; }
die() { say "$*" >&2; exit 1; }

# become_root ARG...: start the calling script again through sudo, unless it runs as root.
become_root() {
    [ "$EUID" -ne 0 ] || return 0
    command -v sudo >/dev/null || die "Run it as root, or install sudo and let $(id -un) use it."
    # sudo changes HOME, and with it the file that pip reads.
    if [ -z "${PIP_CONFIG_FILE:-}" ] && [ -r ~/.config/pip/pip.conf ]; then
        export PIP_CONFIG_FILE=~/.config/pip/pip.conf
    fi
    local names
    names=$(compgen -e | grep -E '^((PIP|CONTAINER_STACK|UML_GUEST|DOCKER|FAULTS)_.*|CI|TERM|SSL_CERT_.*|REQUESTS_CA_BUNDLE|.*_(proxy|PROXY))$' | paste -sd, || true)
    exec sudo --preserve-env="$names" -- bash "$0" "$@"
}

# leave_chroot ARG...: in a chroot, start the calling script again with this root as that of a mount
# namespace of its own. A container's process started later (docker exec) begins at its namespace's
# root; under a chroot that is the outer machine's root, not the container's.
leave_chroot() {
    local outer
    outer=$(nsenter --mount=/proc/self/ns/mnt -- stat -c %d:%i / 2>/dev/null) || return 0
    [ "$outer" != "$(stat -c %d:%i /)" ] || return 0
    exec 9</ # from outside, this root has a name only so
    # shellcheck disable=SC2016
    exec nsenter --mount=/proc/self/ns/mnt -- bash -c 'cd -P /proc/self/fd/9 && exec 9<&- &&
        exec unshare --mount --propagation private bash -c '\''mkdir -p .outer && pivot_root . .outer &&
            exec chroot . bash -c "umount -l /.outer && rmdir /.outer && cd \"\$0\" && exec bash \"\$@\"" "$@"'\'' \
            bash "$@"' bash "$PWD" "$ROOT/tools/${0##*/}" "$@"
}

# --- clean-up ---------------------------------------------------------------------------------

UNDO=()
declare -A JOBS=() # process group -> what it does

# at_exit COMMAND ARG...: run it when the script ends, whatever ends it; the last one first.
at_exit() { UNDO+=("${*@Q}"); }

# begin NAME: take the machine; from here on everything is undone at the end, and the last line says
# how NAME ended (nothing if it is empty).
begin() {
    NAME=$1
    trap clean_up EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    install -d -m 755 "$WORK"
    # Short, as socket paths are; on disk, as volumes are; open to all, as /tmp is.
    RUN=$(mktemp -d /var/tmp/cs.XXXX)
    chmod 1777 "$RUN"
    export CONTAINER_STACK_WORK=$WORK TMPDIR=$RUN CONTAINER_STACK_RUN=$RUN PIP_CACHE_DIR=${PIP_CACHE_DIR:-$WORK/pip}
    at_exit clean_directory "$RUN"
}

clean_up() {
    local status=$? step pid
    trap - EXIT
    set +e # one failing step must not keep the others from being done
    trap '' INT TERM HUP
    for pid in "${!JOBS[@]}"; do end_group "$pid"; done
    for ((step = ${#UNDO[@]} - 1; step >= 0; step--)); do
        eval "${UNDO[step]}" || say "clean-up failed: ${UNDO[step]}" >&2
    done
    if [ -z "$NAME" ]; then
        :
    elif [ "$status" -eq 0 ]; then
        say "$NAME: done"
    else
        say "$NAME: FAILED, exit code $status"
    fi
    exit "$status"
}

# clean_directory PATH: remove it with what is mounted in it and what loop devices hold of it.
clean_directory() {
    local device
    unmount_below "$1"
    while read -r device; do losetup -d "$device"; done \
        < <(losetup -nO NAME,BACK-FILE 2>/dev/null | awk -v under="$1/" 'index($2, under) == 1 {print $1}')
    rm -rf --one-file-system "$1"
}

unmount_below() {
    local target
    while read -r target; do umount -l "$target"; done \
        < <(awk -v under="$1/" 'index($2, under) == 1 {print $2}' /proc/self/mounts | sort -r)
}

# start_job NAME COMMAND ARG...: run it beside the script, in a process group of its own.
start_job() {
    local name=$1
    shift
    set -m
    "$@" </dev/null &
    set +m
    JOBS[$!]=$name
}

# run_job COMMAND ARG...: run it, return its exit code. The script only waits: it can be interrupted.
run_job() {
    local status=0 pid
    start_job "$1" "$@"
    pid=$!
    wait "$pid" || status=$?
    end_group "$pid" # what it left running
    unset "JOBS[$pid]"
    return "$status"
}

# end_group PID: ask a process group to end, as Ctrl-C does; kill what is left of it after 30 s.
end_group() {
    local signal
    for signal in INT TERM KILL; do
        kill -"$signal" -- "-$1" 2>/dev/null || return 0
        if group_ends "$1" 15; then return 0; fi
    done
}

# group_ends PID SECONDS: wait until a process group is empty; fail if it isn't in time.
group_ends() {
    local try
    for ((try = 0; try < $2 * 5; try++)); do
        kill -0 -- "-$1" 2>/dev/null || return 0
        sleep 0.2
    done
    return 1
}

# --- packages and Python ----------------------------------------------------------------------

declare -A PACKAGE=(
    [python3-venv]="python3 python3-venv" [dockerd]="docker.io iptables" [docker]=docker.io [sudo]=sudo [ip]=iproute2
    [busybox-static]=busybox-static [rsync]=rsync [bwrap]=bubblewrap
    [mkfs.xfs]=xfsprogs [mkfs.ext4]=e2fsprogs [mkfs.btrfs]=btrfs-progs [lvm]=lvm2 [losetup]=mount
    [smbclient]=smbclient [nfs-ls]=libnfs-utils [pgrep]=procps [shellcheck]=shellcheck [mmdebstrap]=mmdebstrap
    [mariadbd]="mariadb-server-core mariadb-client-core" [rabbitmq-server]=rabbitmq-server
    [patchelf]=patchelf [tgtd]=tgt [iscsi-inq]=libiscsi-bin
    [memcached]=memcached [gcc]="gcc libc6-dev" [etcd]=etcd-server
    [docker-registry]=docker-registry [sshd]=openssh-server [curl]=curl
    [ovs-vswitchd]=openvswitch-switch [ethtool]=ethtool [ebtables]=iptables
    [postgresql]=postgresql [faketime]=faketime [chromium]=chromium [systemd-analyze]=systemd
)

# need_commands COMMAND...: install by one apt-get call what is missing, and start no service.
need_commands() {
    local command packages=()
    for command; do
        have_command "$command" || read -ra packages <<<"${packages[*]} ${PACKAGE[$command]}"
    done
    [ ${#packages[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "This is no Debian: install ${packages[*]} yourself."
    say "installing ${packages[*]}"
    apt_get update
    apt_get install -y --no-install-recommends --reinstall "${packages[@]}" # dpkg may believe it's there
}

have_command() {
    case $1 in
        python3-venv) find_python ;;
        busybox-static) command -v busybox >/dev/null && ! ldd "$(command -v busybox)" >/dev/null 2>&1 ;;
        postgresql) compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null ;; # not on the PATH
        *) command -v "$1" >/dev/null ;;
    esac
}

# apt_get ARG...: apt-get that waits for others' locks, tries again, and is silent unless it fails.
apt_get() (
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        # Or a newcomer would find a broker running that was only installed for the tests.
        trap 'rm -f $policy' EXIT
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
    fi
    for pause in 5 15 30 60 0; do
        if apt-get -qq -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 "$@" </dev/null >"$RUN/apt.log" 2>&1
        then exit 0; fi
        sleep $pause
    done
    tail -n 20 "$RUN/apt.log" >&2
    die "apt-get $* failed."
)

# find_python: set PYTHON to a Python >= 3.11 that can make a venv and that every user can run
# (one in root's home would make venvs for root alone). Debian's own comes first.
find_python() {
    local check='import ensurepip, sys; sys.exit(sys.version_info < (3, 11))'
    for PYTHON in /usr/bin/python3 /usr/bin/python3.1[1-9] /usr/local/bin/python3.1[1-9] "$(command -v python3)"; do
        [ -x "$PYTHON" ] || continue
        setpriv --reuid=65534 --regid=65534 --clear-groups "$PYTHON" -I -c "$check" 2>/dev/null && return 0
    done
    return 1
}

# need_venv EXTRA...: install this checkout, not editable, with these extras into $VENV. Packages are
# asked for only when the requirements have changed since; the checkout itself is always installed.
need_venv() {
    local extra wanted=() stamps copy
    exec 9>"$WORK/lock"
    flock 9
    find_python || die "No Python >= 3.11 with venv that every user can run: install one in /usr/local/bin."
    stamps=$VENV/requirements-$(cat "$ROOT/setup.cfg" "$ROOT/pyproject.toml" <("$PYTHON" -V) | sha256sum | cut -c1-16)
    if [ ! -d "$stamps" ]; then
        rm -rf "$VENV"
        "$PYTHON" -m venv "$VENV"
    fi
    for extra; do [ -e "$stamps/$extra" ] || wanted+=("$extra"); done
    copy=$(copy_source "$ROOT")
    if [ -d "$stamps" ] && [ ${#wanted[@]} -eq 0 ]; then
        pip_install "${OFFLINE[@]}" --force-reinstall "$copy"
    else
        say "installing the package with $* into $VENV"
        pip_install --upgrade pip setuptools
        pip_install "${copy}[$(IFS=,; echo "$*")]"
        mkdir -p "$stamps"
        for extra; do : >"$stamps/$extra"; done
    fi
    exec 9>&-
    say "venv ready: $("$VENV/bin/python" -V)"
}

# copy_source DIRECTORY: copy it and print where to: setuptools builds beside the sources.
copy_source() {
    local copy
    copy=$(mktemp -d "$RUN/source.XXXXXX")
    tar -C "$1" --exclude='./.*' --exclude=./build -c . | tar -C "$copy" -x --no-same-owner
    echo "$copy"
}

OFFLINE=(--no-deps --no-index --no-build-isolation) # for sources whose requirements are there

pip_install() {
    "$VENV/bin/python" -m pip install --quiet --root-user-action=ignore "$@" >"$RUN/pip.log" 2>&1 && return 0
    grep -v '^WARNING' "$RUN/pip.log" | tail -n 20 >&2
    die "pip install failed; its words are above."
}

# --- the Docker engine ------------------------------------------------------------------------

engine_answers() {
    "$VENV/bin/python" -c 'import docker; docker.from_env(timeout=10).ping()' 2>/dev/null
}

# need_engine: use the engine that answers; if none does, start one, with its data below $WORK.
need_engine() {
    if engine_answers; then say "using the Docker engine that runs"; return 0; fi
    command -v dockerd >/dev/null || die "The Docker engine doesn't answer. Start it, or install docker.io."
    local engine=$WORK/engine args pid try
    read -ra args <<<"${CONTAINER_STACK_DOCKERD_ARGS:-}"
    mkdir -p "$engine"
    rm -f "$engine/pid"
    echo '{}' >"$engine/config" # the machine's own could contradict these arguments
    remember_network
    set -m
    # Also when this script is killed, it ends.
    setpriv --pdeathsig TERM dockerd --config-file "$engine/config" --data-root "$engine/data" \
        --exec-root "$ENGINE_RUN" --pidfile "$engine/pid" "${args[@]}" </dev/null >"$engine/log" 2>&1 &
    pid=$!
    set +m
    at_exit stop_engine "$pid"
    for ((try = 0; try < 150; try++)); do
        if engine_answers; then say "started dockerd, process $pid, log $engine/log"; return 0; fi
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.2
    done
    tail -n 20 "$engine/log" >&2
    die "dockerd doesn't start; its log, $engine/log, ends above."
}

# stop_engine PID: empty the engine that we started, but for images; stop it; take away what it
# leaves on the host.
stop_engine() {
    timeout 60 "$VENV/bin/python" - <<'END' || say "The engine's containers and networks may be left." >&2
import docker
client = docker.from_env()
for container in client.containers.list(all=True, ignore_removed=True):
    container.remove(force=True, v=True)
client.networks.prune()
for volume in client.volumes.list():
    volume.remove(force=True)
END
    end_group "$1"
    # Whatever it ran (containerd, shims) names the engine's own run directory.
    pkill -KILL -f -- "$ENGINE_RUN/" || true
    unmount_below "$WORK/engine"
    unmount_below "$ENGINE_RUN"
    rm -rf --one-file-system "$ENGINE_RUN"
    forget_network
    say "stopped dockerd, process $1"
}

# An engine makes a bridge, chains in iptables and two settings, and leaves them when it stops.
remember_network() {
    local tables
    ip link show docker0 >"$RUN/docker0" 2>/dev/null || true
    for tables in iptables ip6tables; do
        { "$tables" -S FORWARD | head -n 1; } >"$RUN/$tables" 2>/dev/null || true
    done
    cp /proc/sys/net/ipv4/ip_forward "$RUN/ip_forward"
}

forget_network() {
    local tables policy
    [ ! -s "$RUN/docker0" ] || return 0 # of an engine before ours, stopped now
    ip link delete docker0 2>/dev/null || true
    for tables in iptables ip6tables; do
        # Only what bears Docker's names goes: other lines may be newer than ours.
        { "$tables-save" | grep -vE 'DOCKER|docker0' | "$tables-restore"; } 2>/dev/null || true
        read -ra policy <"$RUN/$tables" && "$tables" "${policy[@]}"
    done
    cat "$RUN/ip_forward" >/proc/sys/net/ipv4/ip_forward
}
