#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run-tempest.sh compute|share|site [ARG...]: run tempest's tests of Nova, or those of Manila's plugin
# for tempest (share: with share servers; site: with one server on the host's own address), from a
# bare Debian machine if need be, against real services that it starts and stops.
# ARGs go to `tempest run`, such as --regex tempest.api.compute.servers. What is left out, and why,
# is in tests/acceptance/*-tempest-excluded.txt.

# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

needed=(python3-venv dockerd docker sudo ip pgrep mariadbd rabbitmq-server smbclient)
case ${1:-} in
    compute) module=(nova_tempest) needed+=(busybox-static) ;;
    share | site) module=(manila_tempest "$1") needed+=(mkfs.btrfs losetup) ;;
    *) die "usage: ${0##*/} compute|share|site [ARG...]" ;;
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
run_job "$VENV/bin/python" -m "acceptance.${module[0]}" "${module[@]:1}" "$RUN/cloud" "$@"
