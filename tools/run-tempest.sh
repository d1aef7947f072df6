#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run-tempest.sh [ARG...]: run tempest's tests of the compute API, from a bare Debian machine if need
# be, against a cloud of real services that it starts and stops. ARGs go to `tempest run`, such as
# --regex tempest.api.compute.servers. What is left out, and why, is in
# tests/acceptance/nova-tempest-excluded.txt.

# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

become_root "$@"
leave_chroot "$@"
begin run-tempest
cd "$ROOT"
need_commands python3-venv dockerd docker sudo ip pgrep mariadbd rabbitmq-server busybox-static
need_venv manila nova glance swift simulator demo test cloud tempest
need_engine
install -d -m 755 "$RUN/cloud"
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$ROOT/tests
run_job "$VENV/bin/python" -m acceptance.nova_tempest "$RUN/cloud" "$@"
