#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# devstack_machine.sh DIRECTORY PLUGIN MODE...: call a plugin as devstack's stack.sh, unstack.sh and
# clean.sh do, on a machine that is a directory. What devstack and the system give the plugin are
# functions here, which do what it sees of them; what they did is found in the directory.
#
#   root/         the machine's files, such as root/etc
#   local.conf    sourced for variables: the section [[local|localrc]], but for enable_plugin
#   containers, networks, images   what the engine has: an id, and its label
#   links, ports                   outer ends of containers' links, and what Open vSwitch knows of
#   loops, mounts, vgs, rules, groups, types
#   packages, pip                  what was installed
#   calls                          of the package's command, with tabs between the words

MACHINE=$1 PLUGIN=$2
shift 2
DATA_DIR=$MACHINE/data
# shellcheck disable=SC2034
STACK_USER=stack HOST_IP=192.0.2.5 TEMPEST_CONFIG=$MACHINE/tempest.conf
ENABLED_SERVICES=${SERVICES-m-api,m-shr,tempest}
mkdir -p "$DATA_DIR" "$MACHINE/root/etc/sudoers.d" "$MACHINE/root/var/lib"

# --- tables ------------------------------------------------------------------------------------

touch "$MACHINE"/{containers,networks,images,links,loops,mounts,groups,ports,rules,types,vgs,packages,pip,calls}
# Without processes, as there are many calls.
lines() { mapfile -t LINES_READ 2>/dev/null <"$1" || LINES_READ=(); }
put() { if [[ $# -gt 1 ]]; then printf '%s\n' "${@:2}" >"$1"; else : >"$1"; fi; }
has() {
    local line
    lines "$MACHINE/$1"
    for line in "${LINES_READ[@]}"; do if [[ $line == "$2" ]]; then return 0; fi; done
    return 1
}
add() { has "$1" "$2" || echo "$2" >>"$MACHINE/$1"; }
# drop TABLE PATTERN: remove the lines that match it whole; fail if there is none.
drop() {
    local line kept=()
    lines "$MACHINE/$1"
    for line in "${LINES_READ[@]}"; do if ! [[ $line =~ ^($2)$ ]]; then kept+=("$line"); fi; done
    put "$MACHINE/$1" "${kept[@]}"
    [[ ${#kept[@]} -lt ${#LINES_READ[@]} ]]
}
# column TABLE PATTERN: the first words of the lines that match it.
column() {
    local line
    lines "$MACHINE/$1"
    for line in "${LINES_READ[@]}"; do if [[ $line =~ $2 ]]; then echo "${line%% *}"; fi; done
}
unknown() { echo "nobody told this machine of: $*" >&2; exit 97; }

# --- devstack's functions ----------------------------------------------------------------------

is_service_enabled() {
    local service
    for service; do if [[ ,$ENABLED_SERVICES, == *",$service,"* ]]; then return 0; fi; done
    return 1
}
enable_service() { ENABLED_SERVICES+=,$1; }
define_plugin() { :; }
plugin_requires() { :; }
echo_summary() { echo "$*"; }
die() { echo "[ERROR] $1 ${*:2}" >&2; exit 1; }
is_ubuntu() { [[ ${DISTRIBUTION:-deb} == deb ]]; }
is_package_installed() { has packages "$1"; }
install_package() { local name; for name; do add packages "$name"; done; }
setup_develop() { [[ -f $1/setup.cfg && $# -eq 1 ]] && add pip "$1"; }
get_python_exec_prefix() { echo "$MACHINE/bin"; }
ini_has_option() { [[ -n $(iniget "$@") ]]; }
iniget() {
    local line section
    lines "$1"
    for line in "${LINES_READ[@]}"; do
        case $line in
            "["*) section=$line ;;
            "$3 = "*) if [[ $section == "[$2]" ]]; then echo "${line#*= }"; fi ;;
        esac
    done
}
iniset() {
    [[ $# -eq 4 ]] || unknown iniset "$@"
    local line section before=() after=()
    lines "$1"
    for line in "${LINES_READ[@]}"; do
        if [[ $line == "["* ]]; then section=$line; fi
        if [[ $section != "[$2]" && -z ${after[*]} ]]; then
            before+=("$line")
        elif [[ $section != "[$2]" || $line != "$3 = "* ]]; then
            after+=("$line")
        fi
    done
    if [[ -z ${after[*]} ]]; then after=("[$2]"); fi
    put "$1" "${before[@]}" "${after[0]}" "$3 = $4" "${after[@]:1}"
}

# --- the system --------------------------------------------------------------------------------

# In root's hands absolute paths are those of the machine, and no others.
sudo() {
    local word words=()
    if [[ $1 == -* ]]; then unknown sudo "$@"; fi
    for word; do
        case $word in "$MACHINE"/* | /dev/*) ;; /*) word=$MACHINE/root$word ;; esac
        words+=("$word")
    done
    as_user "${words[@]}"
}
runuser() { [[ "$1 $2 $3" == "-u stack --" ]] && as_user "${@:4}"; }
as_user() { "${1/#"$MACHINE/bin/container-stack"/container_stack}" "${@:2}"; }
hostname() { echo tower; }
id() {
    case $1 in
        -gn) echo stack ;;
        -nG) lines "$MACHINE/groups" && echo "stack ${LINES_READ[*]}" ;;
        *) unknown id "$@" ;;
    esac
}
install() {
    [[ "${*:1:6}" == "-d -o stack -g stack -m" ]] || unknown install "$@"
    command install -d -m "$7" "$8"
}
usermod() { [[ "$1 $3" == "-aG stack" ]] && add groups "$2"; }
gpasswd() { [[ "$1 $2" == "--delete stack" ]] && drop groups "$3"; }
docker() {
    case "$1 $2" in
        "ps --all" | "network ls" | "images --quiet")
            local table=${1/ps/containers} label=${*: -1:1}
            column "${table/network/networks}" " ${label#label=}\$" ;;
        "rm --force")
            drop links ".* $4"
            drop containers "$4 .*" ;;
        "network rm")
            # Who is still on it keeps it: here, whose label is the same.
            local net
            lines "$MACHINE/networks"
            for net in "${LINES_READ[@]}"; do
                if [[ $net == "$3 "* && -z $(column containers "${net#* }") ]]; then drop networks "$net"; fi
            done ;;
        "rmi --force") drop images "$3 .*" ;;
        *) unknown docker "$@" ;;
    esac
}
ip() {
    case "$*" in
        "-o link show") lines "$MACHINE/networks" && printf '1: %s\n' "${LINES_READ[@]}" ;;
        "link show dev "*) [[ -n $(column links "^$4 ") ]] ;;
        *) unknown ip "$@" ;;
    esac
}
ip6tables() { [[ "$1 $2" == "--wait --delete" ]] && local rule=${*:3} && drop rules "${rule/+/\\+}"; }
ovs-vsctl() {
    case "$1 $2" in
        "--bare --columns=name") cat "$MACHINE/ports" ;;
        "--if-exists del-port") drop ports "$3" ;;
        *) unknown ovs-vsctl "$@" ;;
    esac
}
findmnt() { cat "$MACHINE/mounts"; }
umount() {
    # Not before what is mounted below it.
    local target=${1#"$MACHINE/root"}
    [[ -z $(column mounts "^$target/") ]] && drop mounts "$target"
}
losetup() {
    case "$1" in
        --find) add loops "/dev/loop7 $3" && echo /dev/loop7 ;;
        --associated) column loops " $2\$" ;;
        --list) cat "$MACHINE/loops" ;;
        --detach) drop loops "$2 .*" ;;
        *) unknown losetup "$@" ;;
    esac
}
vgs() { has vgs "$1"; }
vgcreate() { [[ $2 == /dev/loop7 ]] && add vgs "$1"; }
vgremove() { [[ $1 == --force ]] && drop vgs "$2"; }
openstack() {
    [[ "$1 $2 $3 $4" == "--os-cloud devstack-admin share type" ]] || unknown openstack "$@"
    case $5 in
        show) [[ -n $(column types "^$6 ") ]] ;;
        create) [[ $8 == --extra-specs ]] && add types "$6 $7 ${*:9}" ;;
        set)
            [[ $7 == --extra-specs ]] || unknown openstack "$@"
            local handles=False
            if [[ -n $(column types "^$6 True") ]]; then handles=True; fi
            drop types "$6 .*"
            add types "$6 $handles ${*:8}" ;;
        *) unknown openstack "$@" ;;
    esac
}
# The command of the package, which the plugin calls by its path and through sudo.
container_stack() {
    local IFS=$'\t'
    add calls "$*"
    IFS=' '
    case "$1 $2" in
        "rootwrap install")
            [[ "${*:3:4} $7 $9" == "--driver manila --user stack --directory --state-dir" ]] || unknown "$@"
            mkdir -p "$8/rootwrap.d"
            echo "filters_path = $8/rootwrap.d" >"$8/rootwrap.conf"
            echo "for ${10}" >"$8/rootwrap.d/manila.filters"
            echo "$8/rootwrap.conf" >"$MACHINE/root/etc/sudoers.d/container-stack-stack" ;;
        "image build")
            local tag=container-stack-samba:5
            if [[ $4 == --tag ]]; then tag=$5; fi
            add images "$tag container_stack.image=samba" ;;
        "host check")
            [[ "$3 $4 $5 $7" == "--driver manila --config-file --section" ]] || unknown "$@"
            local code=0 tag state
            tag=$(iniget "$6" "$8" container_image_name)
            tag=${tag:-container-stack-samba:5}
            state=$(iniget "$6" "$8" container_stack_state_dir)
            finding "image $tag" has images "$tag container_stack.image=samba"
            finding "state directory $state" test -d "$MACHINE/root$state"
            finding filters has root/etc/container-stack/rootwrap.d/manila.filters "for $MACHINE/root$state"
            finding "engine" has groups docker
            return "$code" ;;
        *) unknown "$@" ;;
    esac
}
finding() {
    if [[ ${BROKEN:-} != "$1" ]] && "${@:2}"; then echo "$1 ok"; else echo "$1 failure" && code=1; fi
}

# --- Manila's plugin, as far as another sees it -------------------------------------------------

manila_settings() {
    MANILA_CONF=$MACHINE/manila.conf
    SHARE_DRIVER=${SHARE_DRIVER:-manila.share.drivers.generic.GenericShareDriver}
}
manila_post_config() {
    local group name
    rm -f "$MANILA_CONF"
    iniset "$MANILA_CONF" DEFAULT enabled_share_backends "$MANILA_ENABLED_BACKENDS"
    iniset "$MANILA_CONF" DEFAULT enabled_share_protocols "$ENABLED_SHARE_PROTOCOLS"
    for group in ${MANILA_ENABLED_BACKENDS//,/ }; do
        iniset "$MANILA_CONF" "$group" share_driver "$SHARE_DRIVER"
        iniset "$MANILA_CONF" "$group" share_backend_name "${group^^}"
        iniset "$MANILA_CONF" "$group" driver_handles_share_servers True
        for name in $(compgen -v "MANILA_OPTGROUP_${group}_"); do
            iniset "$MANILA_CONF" "$group" "${name#"MANILA_OPTGROUP_${group}_"}" "${!name}"
        done
    done
}

# --- devstack's order ---------------------------------------------------------------------------

# shellcheck source=/dev/null
source <(sed '/^\[\[/d; /^enable_plugin/d' "$MACHINE/local.conf")
# shellcheck source=/dev/null
source "$PLUGIN/override-defaults"
if [[ ${MANILA:-yes} == yes ]]; then manila_settings; fi
# shellcheck source=/dev/null
source "$PLUGIN/settings"
if [[ ${MANILA:-yes} == below ]]; then manila_settings; fi
for mode; do
    case $mode in
        stack)
            set -o errexit
            for phase in pre-install install post-config extra test-config; do
                if [[ $phase == post-config && ${MANILA:-yes} == yes ]]; then manila_post_config; fi
                # shellcheck source=/dev/null
                source "$PLUGIN/plugin.sh" stack "$phase"
            done
            set +o errexit
            ;;
        *)
            # Manila's own plugin has its turn first, and removes its configuration.
            if [[ $mode == clean ]]; then rm -f "$MANILA_CONF"; fi
            # shellcheck source=/dev/null
            source "$PLUGIN/plugin.sh" "$mode"
            ;;
    esac
done
