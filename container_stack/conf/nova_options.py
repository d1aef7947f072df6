# SPDX-License-Identifier: Apache-2.0
"""The options of the section [docker] in nova.conf, by what they are about."""

from oslo_config import cfg, types

from container_stack.host import containers
from container_stack.rootwrap import commands
from container_stack.servers import spec

MIB = 1024**2
DEFAULTS = spec.Defaults()
#: nova-docker's; as a default, it lets the engine tell its own.
ROOT_DIRECTORY = "/var/lib/docker"
#: Of nova-docker, for configurations that name it.
VIF_DRIVER = "novadocker.virt.docker.vifs.DockerGenericVIFDriver"
ENGINE: list[cfg.Opt] = [
    cfg.StrOpt(
        "host_url",
        default=containers.DEFAULT_URL,
        help="Where the Docker Engine listens: unix:///path or tcp://host:port. It must run on "
        "this host, because networks and volumes are connected here. Who may use it is as good "
        "as root.",
    ),
    cfg.BoolOpt(
        "api_insecure",
        default=False,
        help="Do not check who the engine at tcp:// is. Anybody on the way may then be root on "
        "this host: set it for trials only, and better set ca_file.",
    ),
    cfg.StrOpt(
        "ca_file",
        help="File with the CA certificates that the engine's certificate is checked against. "
        "Unset means the system's, for an engine at tcp:// with cert_file.",
    ),
    cfg.StrOpt("cert_file", help="File with the certificate that nova-compute shows the engine."),
    cfg.StrOpt(
        "key_file",
        help="File with the private key to cert_file. Unset means that it is in the same file.",
    ),
    cfg.FloatOpt(
        "engine_timeout",
        default=60.0,
        min=5,
        help="Seconds that the engine may keep silent before a call counts as failed. Raise it "
        "where disks are slow, for an engine may be busy with an image for long.",
    ),
    cfg.StrOpt(
        "root_directory",
        default=ROOT_DIRECTORY,
        help="Directory of the engine whose file system is measured for the host's disk "
        "inventory. The default asks the engine; set another where the engine tells a path that "
        "isn't to be seen from here.",
    ),
    cfg.StrOpt(
        "runtime",
        help="Runtime that the engine starts servers with, one of those of its own "
        "configuration, such as runsc or kata. Unset means the engine's default.",
    ),
]

HOST: list[cfg.Opt] = [
    cfg.StrOpt(
        "state_dir",
        default=commands.STATE_DIR,
        help="Directory for records of servers, config drives, mount points and locks. The "
        "service's user must own it, and nobody else may write there. The rootwrap filters are "
        "made for one directory: after a change run `container-stack rootwrap install "
        "--state-dir DIRECTORY`.",
    ),
    cfg.StrOpt(
        "root_helper",
        help="Command that starts the rootwrap daemon as root. Unset means `sudo -n "
        "container-stack-rootwrap-daemon /etc/container-stack/rootwrap.conf`, and for a service "
        "that runs as root the same daemon without sudo.",
    ),
    cfg.StrOpt(
        "vif_driver",
        default=VIF_DRIVER,
        choices=[VIF_DRIVER],
        help="Understood for old configurations, and without effect: the port's own binding says "
        "how it is plugged. Drivers of third parties for nova-docker can't be loaded.",
        deprecated_for_removal=True,
        deprecated_reason="There is one driver for all kinds of ports.",
    ),
    cfg.BoolOpt(
        "accept_forwarding",
        default=False,
        help="Insert a rule into the chain DOCKER-USER that lets packets between servers' own "
        "bridges pass. The engine drops what hosts forward unless told otherwise; leave it off "
        "where the operator's own rules admit it.",
    ),
    cfg.BoolOpt(
        "bridge_taps",
        default=True,
        help="Put ports that are bound as taps on a Linux bridge of their network, which is made "
        "with its first port on this host. Turn it off where an agent takes care of the taps, such "
        "as Calico's, which routes: they are then left on no bridge.",
    ),
    cfg.BoolOpt(
        "filter_taps",
        default=True,
        help="Let a port that is bound as a tap, by a mechanism that doesn't filter, send from its "
        "own MAC address and IP addresses alone (ebtables). Turn it off where ports need allowed "
        "address pairs or have no port security, which Nova isn't told.",
    ),
    cfg.StrOpt(
        "disk_quota",
        default="auto",
        choices=["auto", "required", "none"],
        help="Whether a flavor's root_gb limits what a server writes. The engine can do it on "
        "btrfs, zfs, devicemapper, and overlay2 over xfs mounted with pquota. `auto` does it "
        "where the engine can, `required` doesn't start where it can't, `none` never does it.",
    ),
    cfg.BoolOpt(
        "mount_volumes",
        default=False,
        help="Mount the file system of a volume, and make one on an empty volume, instead of "
        "giving the server a device: it appears below /volumes, as /volumes/vdb. A container "
        "can't mount a device itself. But what is on a volume is its tenant's, and this host's "
        "kernel then reads it: turn it on only for tenants that may be trusted that far.",
    ),
    cfg.StrOpt(
        "volume_filesystem",
        default="ext4",
        choices=["ext4", "xfs"],
        help="What is made on an empty volume that is to be mounted.",
    ),
    cfg.BoolOpt(
        "volume_multipath",
        default=False,
        help="Reach an iSCSI target through all its portals at once. It needs multipathd.",
    ),
    cfg.IntOpt(
        "volume_timeout",
        default=60,
        min=5,
        max=600,
        help="Seconds that an iSCSI target may take to let this host in, and that reading and "
        "writing waits for one that has stopped to answer before it fails.",
    ),
    cfg.ListOpt(
        "gpus",
        default=[],
        help="Devices that flavors may ask for, by the names that the engine's device driver "
        "knows them by, such as GPU-fef8089b or 0. None are offered by default.",
    ),
]

IMAGES: list[cfg.Opt] = [
    cfg.StrOpt(
        "snapshots_directory",
        help="Directory in which a snapshot is written before it goes to Glance. Unset streams "
        "it there without a copy; set it where Glance is so slow that the engine's connection "
        "would break.",
    ),
    cfg.StrOpt(
        "shared_directory",
        help="Directory with images as files named by their Glance ids. An image that is there "
        "isn't downloaded; it is checked against Glance's hash all the same.",
    ),
    cfg.IntOpt(
        "max_image_size_gb",
        default=64,
        min=1,
        help="Largest image, in GiB, that is given to the engine, packed and unpacked. A small "
        "archive may unpack to any size, and would fill the host's disk.",
    ),
]

SERVERS: list[cfg.Opt] = [
    cfg.BoolOpt(
        "inject_key",
        default=False,
        help="Write the server's public key to /root/.ssh/authorized_keys before its first "
        "start. Images with cloud-init take it from the metadata service or the config drive.",
    ),
    cfg.BoolOpt(
        "privileged",
        default=False,
        help="Start every server without any wall between it and this host: each tenant is root "
        "here. For hosts of a single trusted tenant only.",
    ),
    cfg.ListOpt(
        "capabilities",
        default=list(spec.CAPABILITIES),
        help="Capabilities, by their names without the prefix, that root has in a server. Some "
        "packet tools need NET_RAW, which also lets a server forge packets.",
    ),
    cfg.BoolOpt(
        "no_new_privileges",
        default=True,
        help="Let no process of a server gain rights by a setuid program, so that neither sudo "
        "nor su work in it. Turn it off for images that need them.",
    ),
    cfg.StrOpt(
        "seccomp_profile",
        help="File with a seccomp profile (JSON) for servers. Unset means the engine's own, which "
        "serves nearly all images.",
    ),
    cfg.BoolOpt(
        "require_user_namespaces",
        default=False,
        help="Refuse to start unless the engine runs with userns-remap, so that root in a server "
        "is nobody on this host. Recommended wherever tenants don't trust each other.",
    ),
    cfg.IntOpt(
        "pids_limit",
        default=DEFAULTS.pids,
        min=16,
        help="Most processes and threads in a server, unless its flavor says otherwise by the "
        "extra spec docker:pids_limit. Without a limit one server can stop all others.",
    ),
    cfg.IntOpt(
        "log_size_mb",
        default=(DEFAULTS.log_size or 0) // MIB,
        min=0,
        help="What the engine keeps of a server's output, in MiB; it is the console log. 0 leaves "
        "it to the engine's configuration, whose default is without limit.",
    ),
    cfg.StrOpt(
        "console_shell",
        default="/bin/sh",
        help="Program that the serial console runs in a server, by its path there.",
    ),
]

POLICY: list[cfg.Opt] = [
    cfg.BoolOpt(
        "user_data_parameters",
        default=True,
        help="Read parameters of the container from user data in YAML or JSON. Off, all user "
        "data is only passed on to the server.",
    ),
    cfg.ListOpt(
        "ignored_user_data",
        default=[],
        help="Keys of user data that are passed over instead of being refused, such as Links. "
        "For templates of nova-docker's time, which say more than it ever did.",
    ),
    cfg.ListOpt(
        "allowed_host_paths",
        default=[],
        help="Paths of this host that tenants may have in their servers, exactly as written "
        "here, and never what is below them. :ro behind one allows reading only. They must "
        "exist. A tenant is root in them.",
    ),
    cfg.ListOpt(
        "allowed_devices",
        default=[],
        help="Devices of this host that tenants may use, exactly as written here, such as "
        "/dev/net/tun. :r behind one allows reading only.",
    ),
    cfg.ListOpt(
        "allowed_capabilities",
        default=[],
        help="Capabilities that tenants may add to those of the option capabilities, such as "
        "NET_ADMIN. SYS_ADMIN, SYS_MODULE and some others are as good as root on this host.",
    ),
    cfg.BoolOpt(
        "allow_privileged",
        default=False,
        help="Tenants may start privileged servers. They are root on this host then.",
    ),
    cfg.ListOpt(
        "allowed_host_namespaces",
        default=[],
        item_type=types.String(choices=["ipc", "pid"]),
        help="Namespaces of this host that tenants' servers may share: ipc, pid. The host's "
        "network is never shared.",
    ),
    cfg.DictOpt(
        "allowed_links",
        default={},
        help="What tenants may link to, and its address, as name:address pairs. A link is a line "
        "in the server's /etc/hosts; that address must be reachable from the server's networks.",
    ),
    cfg.ListOpt(
        "allowed_volumes_from",
        default=[],
        help="Names of containers of the engine whose volumes tenants may have in their servers. "
        ":ro behind one allows reading only.",
    ),
    cfg.ListOpt(
        "allowed_host_ports",
        default=[],
        help="Ports of this host that tenants may publish ports of their servers on, as 8080 or "
        "11000-11999. Floating IPs serve better.",
    ),
    cfg.ListOpt(
        "allowed_security_options",
        default=[],
        help="Security options that tenants may set, exactly as written here, such as "
        "label:type:svirt_apache_t. no-new-privileges is always allowed.",
    ),
    cfg.BoolOpt(
        "allow_restart_policies",
        default=False,
        help="Tenants may have the engine restart what has ended. Nova takes a server that ends "
        "for shut off, and may stop one that comes back by itself.",
    ),
    cfg.BoolOpt(
        "allow_anonymous_volumes",
        default=True,
        help="Tenants may ask for volumes that live and die with the server. The flavor's disk "
        "doesn't limit them: turn it off where disk quotas matter.",
    ),
]

OPTS: list[cfg.Opt] = [*ENGINE, *HOST, *IMAGES, *SERVERS, *POLICY]
