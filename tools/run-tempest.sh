#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run-tempest.sh compute|share [ARG...]: run tempest's tests of Nova, or those of Manila's plugin for
# tempest, from a bare Debian machine if need be, against real services that it starts and stops.
# ARGs go to `tempest run`, such as --regex tempest.api.compute.servers. What is left out, and why,
# is in tests/acceptance/*-tempest-excluded.txt.

# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

needed=(python3-venv dockerd docker sudo ip pgrep mariadbd rabbitmq-server smbclient)
case ${1:-} in
    compute) module=nova_tempest needed+=(busybox-static) ;;
    share) module=manila_tempest needed+=(mkfs.btrfs losetup) ;;
    *) die "usage: ${0##*/} compute|share [ARG...]" ;;
esac
become_root "$@"
leave_chroot "$@"
shift
begin run-tempest
cd "$ROOT"
need_commands "${needed[@]}"
need_venv manila nova glance swift simulator demo test cloud tempest
need_engine
install -d -m 755 "$RUN/cloud"
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$ROOT/tests
run_job "$VENV/bin/python" -m "acceptance.$module" "$RUN/cloud" "$@"
