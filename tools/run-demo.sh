#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run-demo.sh [ARG...]: from a fresh Debian machine to a share that an SMB client reads and writes, a
# server that is a container, an image on a simulated array, and a volume of containers. Installs what
# is missing, starts a Docker engine if none answers, runs `container-stack demo ARG...`, returns its
# exit code, and stops what it started.

# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

become_root "$@"
leave_chroot "$@"
begin run-demo
need_commands python3-venv dockerd docker sudo losetup mkfs.xfs mkfs.ext4 mkfs.btrfs lvm ip pgrep tgtd iscsi-inq
need_venv manila glance osd simulator demo
need_engine
run_job "$VENV/bin/container-stack" demo "$@"
