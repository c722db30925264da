#!/usr/bin/env bash
# Install (Debian, Ubuntu; as root) and start munge and a SLURM cluster of one node: this machine.
#
#   tests/slurm/start_slurm.sh          install what is missing, start what does not run
#   tests/slurm/start_slurm.sh stop     stop what this script started
#
# Everything lies in STATE; an existing SLURM of the machine is left alone, and then this does nothing.
set -euo pipefail

STATE=${MOFGAP_SLURM_STATE:-/var/tmp/mofgap-slurm}
CONFIG=/etc/slurm/slurm.conf
MARK="# written by mofgap tests/slurm/start_slurm.sh"

fail() {
    echo "start_slurm: $*" >&2
    exit 1
}

stop() {
    for name in slurmd slurmctld munged; do
        [ -f "$STATE/$name.pid" ] && kill "$(cat "$STATE/$name.pid")" 2>/dev/null || true
    done
    grep -qsF "$MARK" "$CONFIG" && rm -f "$CONFIG"
    echo "stopped"
}

install_packages() {
    command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null && return
    command -v apt-get >/dev/null || fail "no slurm here, and no apt-get to install it with"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq slurm-wlm munge >/dev/null
}

write_config() {
    local cores memory_mb
    cores=$(nproc)
    memory_mb=$(($(awk '/^MemTotal/ {print $2}' /proc/meminfo) / 1024))
    mkdir -p /etc/slurm
    cat >"$CONFIG" <<CONF
$MARK
ClusterName=mofgap
SlurmctldHost=$(hostname)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$STATE/munge.socket
CryptoType=crypto/munge
StateSaveLocation=$STATE/ctld
SlurmdSpoolDir=$STATE/slurmd
SlurmctldPidFile=$STATE/slurmctld.pid
SlurmdPidFile=$STATE/slurmd.pid
SlurmctldLogFile=$STATE/slurmctld.log
SlurmdLogFile=$STATE/slurmd.log
# No cgroups needed, so that it runs in a container too.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# Finished jobs are remembered without a database; an hour is enough for a test.
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MinJobAge=3600
SchedulerParameters=batch_sched_delay=1,sched_interval=5
ReturnToService=2
MpiDefault=none
NodeName=$(hostname) CPUs=$cores RealMemory=$memory_mb State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
}

start() {
    mkdir -p "$STATE/ctld" "$STATE/slurmd"
    chmod 755 "$STATE"
    if ! [ -S "$STATE/munge.socket" ] || ! munge -n -S "$STATE/munge.socket" >/dev/null 2>&1; then
        [ -f "$STATE/munge.key" ] || (umask 077 && head -c 1024 /dev/urandom >"$STATE/munge.key")
        munged --force --key-file="$STATE/munge.key" --socket="$STATE/munge.socket" \
            --pid-file="$STATE/munged.pid" --log-file="$STATE/munged.log" --seed-file="$STATE/munged.seed"
    fi
    scontrol ping 2>/dev/null | grep -q "UP" || slurmctld
    pgrep -x slurmd >/dev/null || slurmd
    for _ in $(seq 60); do
        if sinfo -h -o %T 2>/dev/null | grep -qE "idle|mix|alloc"; then
            sinfo
            return
        fi
        scontrol update NodeName="$(hostname)" State=RESUME 2>/dev/null || true
        sleep 1
    done
    tail -5 "$STATE"/slurmctld.log "$STATE"/slurmd.log >&2
    fail "the node did not come up within a minute"
}

if [ "${1:-}" = stop ]; then
    stop
    exit
fi
if [ -f "$CONFIG" ] && ! grep -qF "$MARK" "$CONFIG"; then
    sinfo || fail "$CONFIG is not ours, and its SLURM does not answer"
    exit
fi
[ "$(id -u)" = 0 ] || fail "needs root"
install_packages
write_config
start
