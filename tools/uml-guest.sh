#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# uml-guest.sh COMMAND [ARG...]: run COMMAND as root under a kernel that has what this machine's lacks
# (device-mapper, so LVM with snapshots and thin pools; Open vSwitch; iSCSI; NFS clients). For operators and CI machines
# that are containers or have a stripped kernel: it needs root and Debian packages, but no KVM.
#
# The guest is User-Mode Linux: a Linux kernel that runs as a process. Its root is this Debian release
# with LVM, Open vSwitch, what share servers hold, and Python. It sees the current directory, this checkout
# and $CONTAINER_STACK_WORK read-write at their own paths; whatever else is written is gone when it ends. It has no network,
# one CPU, no terminal, and is no security boundary: hand it nothing that you wouldn't run here.
#
# Exit code: COMMAND's; 124 if it took too long; 125 if the guest died (its console is printed).
#
#   UML_GUEST_MEMORY=1G        UML_GUEST_TIMEOUT=1800 (seconds)
#   UML_GUEST_SHARE=""         more directories to share, separated by blanks
#   UML_GUEST_PACKAGES=""      more Debian packages in its root (another root is built and kept)
#   UML_GUEST_SUITE=           Debian suite to take the kernel from (default: the first that has one)
#
# The guest is built once (about a minute, 0.7 GB below $CONTAINER_STACK_WORK/guest), then boots in a second.

# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

PACKAGES="kmod udev procps iproute2 mount sudo ca-certificates python3 lvm2 thin-provisioning-tools
    e2fsprogs xfsprogs btrfs-progs openvswitch-switch
    open-iscsi lsscsi multipath-tools tgt targetcli-fb nfs-common nfs-kernel-server
    busybox-static dbus-bin dbus-daemon docker.io ldap-utils libnss-winbind nfs-ganesha-vfs samba samba-vfs-modules tini
    winbind ${UML_GUEST_PACKAGES:-}"
# forky's kernel runs processes under seccomp; older ones trace them, which is half as fast.
SUITES=${UML_GUEST_SUITE:-forky trixie}

# build DIRECTORY: lay the guest there: linux (the kernel), ld.so and lib (its own libc), root.
build() {
    local new=$1.new release mirror suite
    release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
    # shellcheck disable=SC2016  # apt's own variables
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' |
        awk -v release="$release" '$2 == release {print $1; exit}')
    [ -n "$mirror" ] || die "apt's sources don't name a Debian mirror for $release."
    say "building the guest in $1 (once)"
    rm -rf --one-file-system "$new"
    mkdir -p "$new"
    debian "$release" "$new/root" --variant=minbase --include="$(xargs <<<"$PACKAGES" | tr ' ' ,)"
    for suite in $SUITES; do
        if debian "$suite" "$new/uml" --variant=extract --include=user-mode-linux,libc6; then break; fi
    done
    [ -x "$new/uml/usr/bin/linux.uml" ] || die "None of these suites has user-mode-linux: $SUITES."
    mkdir -p "$new/lib" "$new/root/lib/modules"
    cp -L "$new/uml/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" "$new/ld.so"
    cp -L "$new/uml/usr/lib/x86_64-linux-gnu/libc.so.6" "$new/lib/"
    cp -R "$new/uml/usr/lib/uml/modules/." "$new/root/lib/modules/"
    cp "$new/uml/usr/bin/linux.uml" "$new/linux"
    patchelf --set-interpreter ./ld.so "$new/linux"
    rm -rf "$new/uml"
    mv "$new" "$1"
}

# debian SUITE DIRECTORY ARG...: unpack packages, verified by apt.
debian() {
    local suite=$1 directory=$2
    shift 2
    # A mirror of a moving suite may lag behind the date in its index; signatures are checked all the same.
    mmdebstrap --quiet --mode=root "$@" --aptopt='Acquire::Check-Valid-Until "false"' \
        --aptopt='APT::Install-Recommends "false"' --dpkgopt=force-unsafe-io \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' "$suite" "$directory" "$mirror"
}

# write_job FILE COMMAND ARG...: what the guest's first process has to know.
write_job() {
    local file=$1 directory share
    local -a shares command
    shift
    command=("$@")
    directory=$(pwd -P)
    for share in "$directory" "$ROOT" "$WORK" ${UML_GUEST_SHARE:-}; do
        [[ $share != *[,[:space:]]* ]] || die "The guest can't mount $share: no commas or blanks in paths."
        shares+=("$(cd "$share" && pwd -P)")
    done
    {
        declare -p directory shares command
        export -p | grep -E '^declare -x (CI|TERM|LC_ALL|(CONTAINER_STACK|PYTHON|PYTEST|HYPOTHESIS)[A-Z_]*)='
    } >"$file"
}

# claim_cpu: set PIN to a command that keeps the guest on a CPU no other guest has. It uses one, and its
# kernel and its processes hand over so often that moving between CPUs makes it 2-3 times slower.
claim_cpu() {
    local cpu
    PIN=()
    for ((cpu = 0; cpu < $(nproc --all); cpu++)); do
        taskset -c "$cpu" true 2>/dev/null || continue
        exec 8>"$WORK/guest/cpu$cpu"
        if flock -n 8; then
            PIN=(taskset -c "$cpu")
            return
        fi
    done
}

boot() {
    cd "$GUEST" || exit
    # cat: the kernel makes its descriptors non-blocking, which must not happen to the caller's.
    "${PIN[@]}" timeout --foreground -k 10 "${UML_GUEST_TIMEOUT:-1800}" env LD_LIBRARY_PATH=lib ./linux mem="${UML_GUEST_MEMORY:-1G}" \
        seccomp=auto uml_dir="$RUN" umid=uml root=/dev/root rootfstype=hostfs rootflags="$GUEST/root" ro \
        init=/uml-guest-init job="$RUN" quiet loglevel=1 con=null con0=null,fd:2 con1=null,fd:1 2>"$RUN/console" | cat
}

[ $# -gt 0 ] || { sed -n '3,/^$/s/^# \{0,1\}//p' "$0"; exit 2; }
become_root "$@"
begin ""
need_commands mmdebstrap patchelf losetup >&2
GUEST=$WORK/guest/$(echo "$PACKAGES $SUITES" | sha256sum | cut -c1-12)
mkdir -p "$WORK/guest"
exec 9>"$WORK/guest/lock"
flock 9
[ -d "$GUEST" ] || build "$GUEST" >&2
install -m 755 "$ROOT/tools/uml-guest-init.sh" "$RUN/init"
mv "$RUN/init" "$GUEST/root/uml-guest-init"
exec 9>&-
write_job "$RUN/job" "$@"
claim_cpu
status=0
run_job boot || status=$?
[ ! -s "$RUN/status" ] || exit "$(cat "$RUN/status")"
tail -n 40 "$RUN/console" >&2
case $status in 124 | 137) exit 124 ;; *) exit 125 ;; esac
