#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The Open Storage daemon as an image, made of Debian packages and wheels: no image registry is needed.
#
#   osd-image.sh base FILE               a root file system of Debian packages, as a tar archive
#   osd-image.sh build [BASE]            the image; BASE is what `base` made, else it is made now
#   osd-image.sh launch                  run it; its volumes are below /var/lib/osd, in and outside
#   osd-image.sh plugin NAME DRIVER      make a managed plugin of it, of one driver; not yet enabled
#
# IMAGE (openstorage/osd) and CONFIG (/etc/container-stack/osd.yaml, if it is there) say which;
# ENGINE_SOCKET (/var/run/docker.sock) and PLUGIN_DIR (/run/docker/plugins) where the engine is found.

set -euo pipefail

IMAGE=${IMAGE:-openstorage/osd}
CONFIG=${CONFIG:-/etc/container-stack/osd.yaml}
# Docker is told paths of mounts: they must mean the same to it as to the daemon.
STATE_DIR=/var/lib/osd
ENGINE_SOCKET=${ENGINE_SOCKET:-/var/run/docker.sock}
PLUGIN_DIR=${PLUGIN_DIR:-/run/docker/plugins}
PYTHON=${PYTHON:-python3}
SOURCE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# What the daemon's root helper may need: CAP_SYS_ADMIN mounts, the others let it see to what others own.
CAPABILITIES=(SYS_ADMIN DAC_OVERRIDE DAC_READ_SEARCH FOWNER CHOWN)

scratch() {
    work=$(mktemp -d "${TMPDIR:-/var/tmp}/osd-image.XXXXXX")
    trap 'rm -rf "$work"' EXIT
}

base() {
    # shellcheck disable=SC2016 # mmdebstrap's shell knows its $1
    mmdebstrap --quiet --mode=root --variant=minbase \
        --include=python3,mount,e2fsprogs,xfsprogs,btrfs-progs,nfs-common,lvm2 \
        --dpkgopt=force-unsafe-io --aptopt='APT::Install-Recommends "false"' \
        --aptopt='Acquire::Check-Valid-Until "false"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/* "$1"/var/log/*' \
        --format=tar bookworm "$1.new"
    mv "$1.new" "$1"
}

# Debian's Python looks in this directory of its own accord.
install_into() {
    local site=$1/usr/local/lib/python3.11/dist-packages script
    # pip builds where the source is: not in the checkout.
    mkdir "$work/source"
    tar -C "$SOURCE" -c container_stack nova_shim etc setup.py setup.cfg pyproject.toml README.rst LICENSE | tar -C "$work/source" -x
    "$PYTHON" -m pip wheel --quiet --no-deps --wheel-dir "$work/wheels" "$work/source"
    "$PYTHON" -m pip install --quiet --target "$site" --python-version 3.11 --only-binary=:all: \
        "$(echo "$work"/wheels/*.whl)[osd,aws,etcd,mysql,postgresql]"
    for script in osd container-stack container-stack-rootwrap container-stack-rootwrap-daemon; do
        sed '1s|.*|#!/usr/bin/python3|' "$site/bin/$script" > "$1/usr/local/bin/$script"
        chmod 0755 "$1/usr/local/bin/$script"
    done
    rm -rf "${site:?}/bin"
    chroot "$1" container-stack rootwrap install --driver osd > "$work/installed"
}

build() {
    scratch
    mkdir "$work/root"
    [ $# -gt 0 ] || { base "$work/base.tar" && set -- "$work/base.tar"; }
    tar -C "$work/root" --exclude=./dev/* -xf "$1"
    install_into "$work/root"
    mkdir -p "$work/root/run/docker/plugins" "$work/root$STATE_DIR"
    printf 'osd:\n  drivers:\n    loop:\n' > "$work/root/etc/container-stack/osd.yaml"
    tar -C "$work/root" --sort=name --numeric-owner -c . | docker import \
        --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' \
        --change 'ENTRYPOINT ["osd"]' \
        --change 'CMD ["-d", "-f", "/etc/container-stack/osd.yaml"]' - "$IMAGE" > "$work/id"
    echo "Built $IMAGE."
}

launch() {
    local capabilities=() config=() each
    for each in "${CAPABILITIES[@]}"; do capabilities+=(--cap-add "$each"); done
    [ ! -e "$CONFIG" ] || config=(--volume "$CONFIG:/etc/container-stack/osd.yaml:ro")
    mkdir -p "$STATE_DIR" "$PLUGIN_DIR"
    # Loop devices, their control, and the device mapper's: what it attaches, it makes itself.
    docker run --detach --init --name osd --restart unless-stopped --network host \
        --cap-drop ALL "${capabilities[@]}" \
        --security-opt apparmor=unconfined --security-opt seccomp=unconfined \
        --device-cgroup-rule 'b *:* rmw' --device-cgroup-rule 'c 10:* rmw' --volume /dev:/dev \
        --volume "$STATE_DIR:$STATE_DIR:rshared" "${config[@]}" \
        --volume "$PLUGIN_DIR:/run/docker/plugins" \
        --volume "$ENGINE_SOCKET:/var/run/docker.sock" "$IMAGE"
}

plugin() {
    local name=$1 driver=$2 container
    scratch
    mkdir -p "$work/plugin/rootfs"
    container=$(docker create --network none "$IMAGE")
    docker export "$container" | tar -C "$work/plugin/rootfs" --exclude=./dev/* -xf -
    docker rm "$container" > "$work/removed"
    [ ! -e "$CONFIG" ] || cp "$CONFIG" "$work/plugin/rootfs/etc/container-stack/osd.yaml"
    cat > "$work/plugin/config.json" <<END
{
  "description": "Open Storage volumes, driver $driver",
  "documentation": "https://github.com/libopenstorage/openstorage",
  "entrypoint": ["osd", "-d", "-f", "/etc/container-stack/osd.yaml"],
  "workdir": "/",
  "env": [{"name": "PATH", "value": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}],
  "interface": {"types": ["docker.volumedriver/1.0"], "socket": "$driver.sock"},
  "network": {"type": "host"},
  "propagatedMount": "$STATE_DIR",
  "mounts": [
    {"type": "bind", "source": "/dev", "destination": "/dev", "options": ["rbind"]},
    {"type": "bind", "source": "$ENGINE_SOCKET", "destination": "/var/run/docker.sock",
     "options": ["rbind"]}
  ],
  "linux": {
    "capabilities": [$(printf '"CAP_%s",' "${CAPABILITIES[@]}" | sed 's/,$//')],
    "allowAllDevices": true
  }
}
END
    docker plugin create "$name" "$work/plugin"
}

case "${1:-}" in
    base) shift && base "${1:?a file}" ;;
    build) shift && build "$@" ;;
    launch) launch ;;
    plugin) shift && plugin "${1:?a name}" "${2:?a driver}" ;;
    *) sed -n '3,11s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
