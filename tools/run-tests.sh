#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# run-tests.sh [--keep-going] [--fast | SECTION...]: run the tests, from a bare Debian machine if need be.
#
#   lint        ruff, mypy, import-linter, generated files, documentation, release notes, shellcheck
#   unit        tests/unit: no engine, no root
#   contract    tests/contract: one suite for every storage backend that this kernel can run
#   functional  tests/functional: a real engine, loop devices, a normal user with sudo
#   osd         tests/functional/osd: the same of Open Storage, and clusters, which take their time
#   servers     tests/functional/servers: the same of containers as servers
#   guest       tests/guest: LVM; in a User-Mode-Linux guest where this kernel has no device-mapper
#   examples    examples/: an operator's own service, a third party's backend
#   demo        tools/run-demo.sh
#   acceptance  tests/acceptance: real OpenStack services
#   nova        tests/nova_suites: Nova's own suites over our driver; and Nova among real OpenStack services
#   bench-smoke benchmarks/: that they run; their ratios are shown
#
# Without SECTION all of them; --fast: without guest, demo, acceptance and benchmarks. What doesn't
# disturb each other runs side by side; after the first failure nothing more is started, unless told
# to keep going. Reports in JUnit's format go to $CONTAINER_STACK_WORK/reports. Up to five tests of a
# section that fail beside all others are repeated once. They are named at the end, since they want
# a look. It ends with a table, and fails if anything is left behind.

# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# The lanes of a line run side by side, the sections of a lane one after the other. The quickest to
# fail come first, and what is measured runs alone. The guest has one core; the rest the other.
PHASES=("lint unit" "guest,examples functional,acceptance contract,osd,servers,nova" "demo" "bench-smoke")
FAST="lint unit contract functional osd servers examples"

section_lint() {
    local failed=0
    check "ruff check" "$VENV/bin/ruff" check --quiet --output-format=concise . || failed=1
    check "ruff format" "$VENV/bin/ruff" format --check --quiet --output-format=concise . || failed=1
    check "mypy --strict" "$VENV/bin/mypy" --strict --cache-dir "$WORK/mypy" container_stack || failed=1
    check "import-linter" "$VENV/bin/lint-imports" --no-cache || failed=1
    check "generated files" "$VENV/bin/python" tools/generate.py --check || failed=1
    [ ! -d doc/source ] || check "sphinx" "$VENV/bin/sphinx-build" -q -E -W --keep-going -d "$RUN/doctrees" doc/source "$WORK/html" || failed=1
    [ ! -d releasenotes/notes ] || check "reno" "$VENV/bin/reno" -q lint || failed=1
    check "shellcheck" shellcheck tools/*.sh .ci/run devstack/{plugin.sh,settings,override-defaults} tests/unit/*.sh || failed=1
    return "$failed"
}

section_unit() { run_pytest unit tests/unit; }
section_contract() { run_pytest contract tests/contract; }
section_osd() { run_pytest osd tests/functional/osd; }
section_servers() { run_pytest servers tests/functional/servers; }
section_acceptance() { run_pytest acceptance tests/acceptance --ignore-glob='*/test_nova*.py'; }
section_functional() {
    run_pytest functional tests/functional --ignore=tests/functional/osd --ignore=tests/functional/servers
}

section_nova() {
    # Nova's fixtures change their process for good.
    run_pytest nova tests/nova_suites && run_pytest nova-services tests/acceptance/test_nova*.py
}

section_bench-smoke() { "$VENV/bin/python" -m benchmarks --smoke; }
section_demo() { tools/run-demo.sh; }

section_examples() {
    # Third parties' distributions: installed, so that their entry points are found, but not in the venv.
    pip_install "${OFFLINE[@]}" --target "$RUN/examples" "$(copy_source examples/storage_backend)" \
        "$(copy_source examples/volume_backend)" || return
    PYTHONPATH=$RUN/examples run_pytest examples examples
}

section_guest() {
    modprobe -q dm-mod 2>/dev/null || true
    # Not by /dev/mapper/control: LVM makes that node where no driver is behind it, too.
    if grep -q device-mapper /proc/misc; then
        run_pytest guest tests/guest
    else
        echo "This kernel has no device-mapper: the tests run in a guest."
        UML_GUEST_TIMEOUT=4500 WRAPPER=tools/uml-guest.sh run_pytest guest tests/guest
    fi
}

# run_pytest NAME PATH OPTION...: run the tests there, if there are any; WRAPPER runs pytest.
run_pytest() {
    if [ -z "$(find "$2" -name 'test_*.py' 2>/dev/null)" ]; then
        echo "$2: nothing yet"
        return
    fi
    # No test takes 20 minutes: one that waits in vain fails, and the others still run.
    # A run is the same every time; who calls pytest himself tries other examples of hypothesis's.
    local options=(-q -o cache_dir="$WORK/pytest/$1" --hypothesis-profile=ci --timeout=1200 --durations=5)
    # One for each lane: tests look at what is in it, and change the modes of what is above theirs.
    local directory=$RUN/${1:0:1} status=0 failed=$WORK/pytest/$1/v/cache/lastfailed
    local wrapper=(env TMPDIR="$directory" "$VENV/bin/pytest" --basetemp="$directory/t")
    # Short: containerd takes paths of sockets up to 104 characters.
    install -d -m 1777 "$directory"
    [ -z "${WRAPPER:-}" ] || wrapper=("$WRAPPER" "$VENV/bin/pytest")
    "${wrapper[@]}" "${options[@]}" --cache-clear --junitxml="$WORK/reports/$1.xml" "${@:2}" || status=$?
    if [ "$status" -eq 1 ] && [ "$(grep -c '": true' "$failed")" -le 5 ]; then
        sed -n 's/^ *"\(.*\)": true,\?$/\1/p' "$failed" >"$RUN/repeated.$1"
        say "--- $1: once more ---"
        "${wrapper[@]}" "${options[@]}" --last-failed --last-failed-no-failures=none \
            --junitxml="$WORK/reports/$1-repeated.xml" "${@:2}" && status=0
    fi
    return "$status"
}

# check NAME COMMAND ARG...: one line with its time; its output only if it fails.
check() {
    local name=$1 start=$EPOCHREALTIME status=0 output
    shift
    output=$("$@" 2>&1) || status=$?
    [ "$status" -eq 0 ] || printf '%s\n' "$output"
    printf '%-16s %-6s %5.1f s\n' "$name" "$([ "$status" -eq 0 ] && echo ok || echo FAILED)" \
        "$(((${EPOCHREALTIME/./} - ${start/./}) / 100000))e-1"
    return "$status"
}

# run_lane SECTION...: run them one after the other, up to the first that fails unless told to go on.
run_lane() {
    local section start status result failed=0
    for section; do
        start=$SECONDS status=0
        say "--- $section ---"
        ("section_$section") || status=$?
        if [ "$status" -eq 0 ]; then result=passed; else result="FAILED ($status)"; fi
        echo "$result $((SECONDS - start)) s" >"$RUN/result.$section"
        say "--- $section: $(cat "$RUN/result.$section") ---"
        [ "$status" -eq 0 ] || failed=$status
        [ "$failed" -eq 0 ] || [ "$keep_going" = yes ] || break
    done
    return "$failed"
}

# run_phase LANE...: run them side by side, show each one's output when it ends; fail if one does.
run_phase() {
    local lane pid status failed=0
    for lane; do
        # shellcheck disable=SC2086
        if [ $# -eq 1 ]; then
            start_job "$lane" run_lane ${lane//,/ }
        else
            say "--- $lane: begins ---"
            start_job "$lane" run_lane ${lane//,/ } >"$RUN/$lane.log" 2>&1
        fi
    done
    while [ ${#JOBS[@]} -gt 0 ]; do
        status=0
        wait -n -p pid "${!JOBS[@]}" || status=$?
        lane=${JOBS[$pid]}
        [ $# -eq 1 ] || cat "$RUN/$lane.log"
        group_ends "$pid" 5 || {
            say "left running by $lane:"
            pgrep -a -g "$pid"
            end_group "$pid"
            status=${status/#0/1}
        }
        unset "JOBS[$pid]"
        [ "$status" -eq 0 ] || failed=1
    done
    return "$failed"
}

# in_list WORD WORD...: is the first one of the others?
in_list() { [[ " ${*:2} " == *" $1 "* ]]; }

inventory() { "$VENV/bin/python" tools/inventory.py "$RUN"; }

left_behind() {
    local left
    inventory >"$RUN/after"
    mapfile -t left < <(comm -13 "$RUN/before" "$RUN/after")
    [ ${#left[@]} -gt 0 ] || return 1
    say "left behind by the tests:"
    printf '    %s\n' "${left[@]}"
}

# admit_users DIRECTORY: let services' users pass through to it until the end. Tests do that as well, but
# one lane's would take it back from another's.
admit_users() {
    local directory=$1 mode
    while [ "$directory" != / ]; do
        mode=$(stat -c %a "$directory")
        if [ $((8#$mode & 1)) -eq 0 ]; then
            at_exit chmod "$mode" "$directory"
            chmod o+x "$directory"
        fi
        directory=$(dirname "$directory")
    done
}

GIVEN=("$@") keep_going=no
if [ "${1:-}" = --keep-going ]; then keep_going=yes && shift; fi
read -ra ALL <<<"${PHASES[*]//,/ }"
case ${1:-} in
    "") SECTIONS=("${ALL[@]}") ;;
    --fast) read -ra SECTIONS <<<"$FAST" ;;
    *) SECTIONS=("$@") ;;
esac
for section in "${SECTIONS[@]}"; do
    in_list "$section" "${ALL[@]}" || { sed -n '3,/^$/s/^# \{0,1\}//p' "$0"; exit 2; }
done
has() { in_list "$1" "${SECTIONS[@]}"; }

become_root "${GIVEN[@]}"
leave_chroot "${GIVEN[@]}"
begin run-tests
cd "$ROOT"
admit_users "$ROOT"
needed=(python3-venv pgrep losetup mkfs.xfs mkfs.ext4 mkfs.btrfs sudo ip lvm tgtd iscsi-inq systemd-analyze)
if has lint; then needed+=(shellcheck); fi
if has guest || has acceptance; then needed+=(mmdebstrap patchelf); fi
if has acceptance || has nova; then needed+=(rabbitmq-server); fi
if has acceptance || has contract || has osd || has nova; then needed+=(mariadbd); fi
if has contract; then needed+=(postgresql); fi
if has functional; then needed+=(docker-registry sshd); fi
if has functional || has acceptance; then needed+=(rsync bwrap); fi
if has functional || has osd; then needed+=(etcd); fi
if has servers || has nova; then needed+=(ovs-vswitchd ethtool ebtables); fi
if has osd; then needed+=(faketime chromium curl); fi
if has acceptance || has nova || has bench-smoke; then needed+=(memcached curl); fi
if has functional || has osd || has acceptance || has bench-smoke; then needed+=(mmdebstrap gcc); fi
engine=no
for section in functional osd servers acceptance nova examples demo bench-smoke; do if has "$section"; then engine=yes; fi; done
if [ "$engine" = yes ]; then needed+=(dockerd busybox-static smbclient nfs-ls); fi
need_commands "${needed[@]}"
need_venv manila nova glance swift etcd osd aws mysql postgresql simulator demo test cloud lint docs
if [ "$engine" = yes ]; then need_engine; fi

# Nothing is written into the checkout.
export PYTHONDONTWRITEBYTECODE=1 RUFF_CACHE_DIR=$WORK/ruff HYPOTHESIS_STORAGE_DIRECTORY=$WORK/hypothesis
mkdir -p "$WORK/reports"
inventory >"$RUN/before"
failed=0
for phase in "${PHASES[@]}"; do
    lanes=()
    for lane in $phase; do
        chosen=""
        for section in ${lane//,/ }; do if has "$section"; then chosen+=,$section; fi; done
        [ -z "$chosen" ] || lanes+=("${chosen#,}")
    done
    [ ${#lanes[@]} -gt 0 ] || continue
    run_phase "${lanes[@]}" || failed=1
    [ "$failed" -eq 0 ] || [ "$keep_going" = yes ] || break
done
if left_behind; then failed=1; else say "nothing is left behind"; fi
for section in "${ALL[@]}"; do
    if has "$section"; then
        printf '    %-11s %s\n' "$section" "$(cat "$RUN/result.$section" 2>/dev/null || echo not run)"
    fi
done
if compgen -G "$RUN/repeated.*" >/dev/null; then
    say "failed once and were repeated:"
    sed 's/^/    /' "$RUN"/repeated.*
fi
exit "$failed"
