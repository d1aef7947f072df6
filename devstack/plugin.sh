# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# plugin.sh MODE [PHASE]: sourced by devstack, after Manila's own plugin. It sets a host up for shares
# from containers and takes everything back; see doc/source/devstack.rst. Each function may be
# repeated, with the same result.

_CONTAINER_STACK_DRIVER=container_stack.drivers.manila.ContainerShareDriver
_CONTAINER_STACK_SETTINGS="CONF_DIR DIR FILESYSTEM NETWORK_GATEWAY NETWORK_MASK SHARE_PROTOCOLS STATE_DIR STORAGE VOLUME_GROUP"
# What the driver makes in its state directory.
_CONTAINER_STACK_STATE="locks mounts resize servers snapshots users volumes"
# These tell what this plugin made, and so may remove.
_CONTAINER_STACK_MARK=$CONTAINER_STACK_STATE_DIR/.devstack
_CONTAINER_STACK_JOINED=$DATA_DIR/container-stack-joined-docker
_CONTAINER_STACK_BACKING_FILE=$DATA_DIR/container-stack-backing-file

# --- what local.conf says --------------------------------------------------------------------

function check_container_stack_settings {
    local name known=" $_CONTAINER_STACK_SETTINGS "
    for name in $(compgen -v CONTAINER_STACK_); do
        if [[ $known != *" ${name#CONTAINER_STACK_} "* ]]; then
            die $LINENO "container-stack has no setting $name. After CONTAINER_STACK_ comes one of: $_CONTAINER_STACK_SETTINGS."
        fi
    done
    _container_stack_one_of STORAGE loop lvm
    _container_stack_one_of FILESYSTEM xfs ext4 btrfs
    _container_stack_one_of SHARE_PROTOCOLS CIFS CIFS,NFS NFS,CIFS
    for name in CONF_DIR STATE_DIR; do
        name=CONTAINER_STACK_$name
        if ! [[ ${!name} =~ ^(/[A-Za-z0-9_+-][A-Za-z0-9._+-]*){2,}$ ]]; then
            die $LINENO "$name=${!name}: give an absolute path, below another directory than /, of letters, digits and . _ + -."
        fi
    done
    if ! [[ $SHARE_BACKING_FILE_SIZE =~ ^[1-9][0-9]*[KMGT]?$ ]] || [[ $(_container_stack_gib) -lt 1 ]]; then
        die $LINENO "SHARE_BACKING_FILE_SIZE=$SHARE_BACKING_FILE_SIZE: give at least 1G, as a number with K, M, G or T."
    fi
    if [[ -z $_CONTAINER_STACK_MANILA ]]; then
        die $LINENO "container-stack needs Manila: add 'enable_plugin manila https://opendev.org/openstack/manila' to local.conf, above this plugin."
    fi
    if ! is_ubuntu; then
        die $LINENO "container-stack's plugin knows Debian and Ubuntu only; doc/source/install.rst says what to do by hand."
    fi
}

# _container_stack_one_of SETTING VALUE...: stop unless the setting has one of the values.
function _container_stack_one_of {
    local name=CONTAINER_STACK_$1
    shift
    if [[ " $* " != *" ${!name} "* ]]; then
        die $LINENO "$name=${!name}: give one of $*."
    fi
}

# Whole GiB of SHARE_BACKING_FILE_SIZE.
function _container_stack_gib {
    echo $(($(numfmt --from=iec "$SHARE_BACKING_FILE_SIZE") / 1024 ** 3))
}

# The sections of manila.conf that are ours.
function _container_stack_backends {
    local group
    for group in ${MANILA_ENABLED_BACKENDS//,/ }; do
        if [[ $(iniget "$MANILA_CONF" "$group" share_driver) == "$_CONTAINER_STACK_DRIVER" ]]; then
            echo "$group"
        fi
    done
}

# --- stack -----------------------------------------------------------------------------------

function preinstall_container_stack {
    local packages=(sudo)
    case $CONTAINER_STACK_FILESYSTEM in
        xfs) packages+=(xfsprogs) ;;
        ext4) packages+=(e2fsprogs) ;;
        btrfs) packages+=(btrfs-progs) ;;
    esac
    if [[ $CONTAINER_STACK_STORAGE == lvm ]]; then
        packages+=(lvm2)
    fi
    # Docker's own packages exclude Debian's.
    if ! is_package_installed docker-ce; then
        packages+=(docker.io)
    fi
    install_package "${packages[@]}"
}

function install_container_stack {
    local found
    if ! sudo test -e "$_CONTAINER_STACK_MARK" && sudo test -e "$CONTAINER_STACK_STATE_DIR"; then
        found=$(sudo find "$CONTAINER_STACK_STATE_DIR" -mindepth 1 -print -quit)
        if [[ -n $found ]]; then
            die $LINENO "$CONTAINER_STACK_STATE_DIR isn't empty, and this plugin didn't fill it: name another directory in CONTAINER_STACK_STATE_DIR."
        fi
    fi
    # Not with the extra `manila`: that names releases, and devstack has a checkout.
    setup_develop "$CONTAINER_STACK_DIR"
    sudo "$(get_python_exec_prefix)/container-stack" rootwrap install --driver manila \
        --user "$STACK_USER" --directory "$CONTAINER_STACK_CONF_DIR" \
        --state-dir "$CONTAINER_STACK_STATE_DIR"
    sudo install -d -o "$STACK_USER" -g "$(id -gn "$STACK_USER")" -m 0750 "$CONTAINER_STACK_STATE_DIR"
    sudo touch "$_CONTAINER_STACK_MARK"
    if [[ " $(id -nG "$STACK_USER") " != *" docker "* ]]; then
        touch "$_CONTAINER_STACK_JOINED"
        sudo usermod -aG docker "$STACK_USER"
    fi
}

function configure_container_stack {
    local group backends
    backends=$(_container_stack_backends)
    if [[ -z $backends ]]; then
        die $LINENO "No back end of $MANILA_ENABLED_BACKENDS has the share_driver $_CONTAINER_STACK_DRIVER: set SHARE_DRIVER, or MANILA_OPTGROUP_<section>_share_driver."
    fi
    for group in $backends; do
        _container_stack_configure_backend "$group"
        _container_stack_build_image "$group"
    done
}

function _container_stack_configure_backend {
    local group=$1 helper handles
    helper="sudo -n $(get_python_exec_prefix)/container-stack-rootwrap-daemon $CONTAINER_STACK_CONF_DIR/rootwrap.conf"
    _container_stack_option "$group" container_stack_state_dir "$CONTAINER_STACK_STATE_DIR"
    _container_stack_option "$group" container_stack_root_helper "$helper"
    _container_stack_option "$group" container_stack_filesystem "$CONTAINER_STACK_FILESYSTEM"
    _container_stack_option "$group" container_stack_storage "$CONTAINER_STACK_STORAGE"
    case $(iniget "$MANILA_CONF" "$group" container_stack_storage) in
        loop)
            _container_stack_option "$group" container_stack_pool_size_gb "$(_container_stack_gib)"
            ;;
        lvm)
            _container_stack_option "$group" container_volume_group "$CONTAINER_STACK_VOLUME_GROUP"
            if [[ $(iniget "$MANILA_CONF" "$group" container_volume_group) == "$CONTAINER_STACK_VOLUME_GROUP" ]]; then
                create_container_stack_volume_group
            fi
            ;;
    esac
    handles=$(iniget "$MANILA_CONF" "$group" driver_handles_share_servers)
    if [[ ${handles,,} == true ]]; then
        _container_stack_option "$group" container_stack_share_protocols "$CONTAINER_STACK_SHARE_PROTOCOLS"
        _container_stack_configure_network "$group"
    else
        _container_stack_option "$group" container_stack_site_addresses "$HOST_IP"
    fi
}

function _container_stack_configure_network {
    local group=$1 plugin=manila.network.standalone_network_plugin.StandaloneNetworkPlugin
    if is_service_enabled neutron; then
        plugin=manila.network.neutron.neutron_network_plugin.NeutronBindNetworkPlugin
    fi
    _container_stack_option "$group" network_api_class "$plugin"
    case $(iniget "$MANILA_CONF" "$group" network_api_class) in
        *.NeutronBind*)
            _container_stack_option "$group" neutron_host_id "$(hostname)"
            _container_stack_option "$group" neutron_vnic_type normal
            if ! ini_has_option "$MANILA_CONF" "$group" container_linux_bridge_name; then
                _container_stack_option "$group" container_ovs_bridge_name "${OVS_BRIDGE:-br-int}"
            fi
            ;;
        *.StandaloneNetworkPlugin)
            _container_stack_option "$group" standalone_network_plugin_gateway "$CONTAINER_STACK_NETWORK_GATEWAY"
            _container_stack_option "$group" standalone_network_plugin_mask "$CONTAINER_STACK_NETWORK_MASK"
            ;;
    esac
}

# _container_stack_option GROUP NAME VALUE: set it in manila.conf, unless MANILA_OPTGROUP_* has.
function _container_stack_option {
    if ! ini_has_option "$MANILA_CONF" "$1" "$2"; then
        iniset "$MANILA_CONF" "$1" "$2" "$3"
    fi
}

# Put the volume group into a file; one that isn't ours is no one's to take.
function create_container_stack_volume_group {
    local device
    if [[ ! -e $_CONTAINER_STACK_BACKING_FILE ]]; then
        if sudo vgs "$CONTAINER_STACK_VOLUME_GROUP" >/dev/null 2>&1; then
            die $LINENO "There is a volume group $CONTAINER_STACK_VOLUME_GROUP already, and this plugin didn't make it: name another in CONTAINER_STACK_VOLUME_GROUP."
        fi
        truncate -s "$SHARE_BACKING_FILE_SIZE" "$_CONTAINER_STACK_BACKING_FILE"
    fi
    device=$(_container_stack_device)
    if [[ -z $device ]]; then
        device=$(sudo losetup --find --show "$_CONTAINER_STACK_BACKING_FILE")
    fi
    if ! sudo vgs "$CONTAINER_STACK_VOLUME_GROUP" >/dev/null 2>&1; then
        sudo vgcreate "$CONTAINER_STACK_VOLUME_GROUP" "$device"
    fi
}

# The loop device of the volume group, if it has one.
function _container_stack_device {
    sudo losetup --associated "$_CONTAINER_STACK_BACKING_FILE" --noheadings --output NAME
}

# Make the share servers' image, unless the engine has that of this version.
function _container_stack_build_image {
    local group=$1 found name
    # It says more, and fails for it; here only the image counts.
    found=$(_container_stack_check "$group" -f value -c Subject -c State) || true
    if ! grep -q '^image .* ok$' <<<"$found"; then
        name=$(iniget "$MANILA_CONF" "$group" container_image_name)
        echo_summary "Making the image of $group's share servers"
        sudo "$(get_python_exec_prefix)/container-stack" image build samba ${name:+--tag "$name"} \
            --config-file "$MANILA_CONF" --section "$group"
    fi
}

# _container_stack_check GROUP OPTION...: what the back end lacks, seen by the service's user. By root,
# as this shell is older than the user's membership in docker, and his sudo may lead to root only.
function _container_stack_check {
    sudo runuser -u "$STACK_USER" -- "$(get_python_exec_prefix)/container-stack" host check --driver manila \
        --config-file "$MANILA_CONF" --section "$1" "${@:2}"
}

function check_container_stack {
    local group
    for group in $(_container_stack_backends); do
        if ! _container_stack_check "$group"; then
            die $LINENO "This host lacks something that the back end $group needs: see 'failure' in the table above, and the cure beside it."
        fi
    done
}

# One share type for each back end, named like it and leading to it.
function create_container_stack_share_types {
    local group handles specs cloud=${OS_CLOUD:-devstack-admin}
    for group in $(_container_stack_backends); do
        handles=$(iniget "$MANILA_CONF" "$group" driver_handles_share_servers)
        read -ra specs <<<"$MANILA_DEFAULT_SHARE_TYPE_EXTRA_SPECS"
        specs+=("share_backend_name=$(iniget "$MANILA_CONF" "$group" share_backend_name)")
        if openstack --os-cloud "$cloud" share type show "$group" >/dev/null 2>&1; then
            openstack --os-cloud "$cloud" share type set "$group" --extra-specs "${specs[@]}"
        else
            openstack --os-cloud "$cloud" share type create "$group" "$handles" --extra-specs "${specs[@]}"
        fi
    done
}

# What the driver does, for Manila's plugin for tempest; tests/acceptance/manila_tempest.py has more.
function configure_container_stack_tempest {
    local option value protocols=${CONTAINER_STACK_SHARE_PROTOCOLS,,}
    while read -r option value; do
        iniset "$TEMPEST_CONFIG" share "$option" "$value"
    done <<END
enable_protocols $protocols
enable_ip_rules_for_protocols $protocols
enable_user_rules_for_protocols cifs
enable_ro_access_level_for_protocols $protocols
username_for_user_rules alice
capability_storage_protocol $([[ $protocols == cifs ]] && echo CIFS || echo NFS_CIFS)
capability_snapshot_support True
capability_create_share_from_snapshot_support True
run_extend_tests True
run_shrink_tests $([[ $CONTAINER_STACK_FILESYSTEM == xfs ]] && echo False || echo True)
run_snapshot_tests True
run_revert_to_snapshot_tests True
run_mount_snapshot_tests True
run_manage_unmanage_tests True
run_manage_unmanage_snapshot_tests True
run_replication_tests False
run_host_assisted_migration_tests False
run_driver_assisted_migration_tests False
END
}

# --- unstack and clean -----------------------------------------------------------------------

# Remove every share server, share and snapshot: the next stack begins with an empty database.
function cleanup_container_stack {
    local group
    for group in ${MANILA_ENABLED_BACKENDS//,/ }; do
        _container_stack_remove_containers "container_stack.owner=manila-$group"
    done
    _container_stack_remove_ports
    if sudo test -e "$_CONTAINER_STACK_MARK"; then
        _container_stack_remove_files
    fi
    if [[ -e $_CONTAINER_STACK_BACKING_FILE ]]; then
        _container_stack_remove_volume_group
    fi
    # The rule of networks with IPv6, in commands/networks.py of rootwrap, unless networks stay.
    if [[ $(ip -o link show) != *": csn"* ]]; then
        sudo ip6tables --wait --delete FORWARD -o csn+ -m physdev ! --physdev-is-bridged \
            -m conntrack --ctstate NEW -j DROP 2>/dev/null || true
    fi
}

function _container_stack_remove_containers {
    local id
    for id in $(sudo docker ps --all --quiet --filter "label=$1"); do
        sudo docker rm --force --volumes "$id"
    done
    for id in $(sudo docker network ls --quiet --filter "label=$1"); do
        sudo docker network rm "$id"
    done
}

# Links go with their containers; Open vSwitch remembers them.
function _container_stack_remove_ports {
    local port
    if type ovs-vsctl >/dev/null 2>&1; then
        for port in $(sudo ovs-vsctl --bare --columns=name list interface); do
            if [[ $port =~ ^csp[0-9a-f]{12}$ ]] && ! ip link show dev "$port" >/dev/null 2>&1; then
                sudo ovs-vsctl --if-exists del-port "$port"
            fi
        done
    fi
}

function _container_stack_remove_files {
    local state=$CONTAINER_STACK_STATE_DIR target device file name
    while read -r target; do
        if [[ $target == "$state"/* ]]; then sudo umount "$target"; fi
    done < <(findmnt --raw --noheadings --output TARGET | sort --reverse)
    while read -r device file; do
        if [[ $file == "$state"/* ]]; then sudo losetup --detach "$device"; fi
    done < <(sudo losetup --list --raw --noheadings --output NAME,BACK-FILE)
    for name in $_CONTAINER_STACK_STATE; do
        sudo rm -rf --one-file-system "$state/$name"
    done
}

function _container_stack_remove_volume_group {
    local device
    if sudo vgs "$CONTAINER_STACK_VOLUME_GROUP" >/dev/null 2>&1; then
        # While something is in use, the file must stay.
        sudo vgremove --force "$CONTAINER_STACK_VOLUME_GROUP" || return
    fi
    device=$(_container_stack_device)
    if [[ -n $device ]]; then sudo losetup --detach "$device"; fi
    rm -f "$_CONTAINER_STACK_BACKING_FILE"
}

# Remove what stays between two stacks. Packages stay, as devstack's own do.
function clean_container_stack {
    local id conf=$CONTAINER_STACK_CONF_DIR
    cleanup_container_stack
    for id in $(sudo docker images --quiet --filter label=container_stack.image=samba); do
        sudo docker rmi --force "$id"
    done
    if sudo test -e "$_CONTAINER_STACK_MARK"; then
        sudo rm -f "$_CONTAINER_STACK_MARK"
        sudo rmdir --ignore-fail-on-non-empty "$CONTAINER_STACK_STATE_DIR"
    fi
    sudo rm -f "/etc/sudoers.d/container-stack-$STACK_USER" "$conf/rootwrap.d/manila.filters"
    # Filters of other drivers need the rest.
    if sudo test -d "$conf/rootwrap.d" && sudo rmdir "$conf/rootwrap.d" 2>/dev/null; then
        sudo rm -f "$conf/rootwrap.conf"
        sudo rmdir --ignore-fail-on-non-empty "$conf"
    fi
    if [[ -e $_CONTAINER_STACK_JOINED ]]; then
        sudo gpasswd --delete "$STACK_USER" docker
        rm -f "$_CONTAINER_STACK_JOINED"
    fi
}

# --- what devstack calls ---------------------------------------------------------------------

if is_service_enabled container-stack; then
    case "$1 ${2:-}" in
        "stack pre-install")
            check_container_stack_settings
            if is_service_enabled m-shr; then
                echo_summary "Installing what container-stack needs"
                preinstall_container_stack
            fi
            ;;
        "stack install")
            if is_service_enabled m-shr; then
                echo_summary "Installing container-stack"
                install_container_stack
            fi
            ;;
        "stack post-config")
            if is_service_enabled m-shr; then
                echo_summary "Configuring Manila for container-stack"
                configure_container_stack
            fi
            ;;
        "stack extra")
            if is_service_enabled m-shr; then
                echo_summary "Checking this host for container-stack"
                check_container_stack
            fi
            if is_service_enabled m-api; then
                echo_summary "Creating share types for container-stack"
                create_container_stack_share_types
            fi
            ;;
        "stack test-config")
            if is_service_enabled tempest; then
                echo_summary "Telling tempest of container-stack"
                configure_container_stack_tempest
            fi
            ;;
        "unstack ")
            cleanup_container_stack
            ;;
        "clean ")
            clean_container_stack
            ;;
    esac
fi
