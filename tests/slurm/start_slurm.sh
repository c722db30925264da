#!/usr/bin/env bash
# Install (Debian, Ubuntu; as root) and start munge and a SLURM cluster of two nodes, both on this machine.
#
#   tests/slurm/start_slurm.sh          install what is missing, start what does not run
#   tests/slurm/start_slurm.sh stop     stop what this script started
#
# Everything lies in STATE; an existing SLURM of the machine is left alone, and then this does nothing.
set -euo pipefail

STATE=${MOFGAP_SLURM_STATE:-/var/tmp/mofgap-slurm}
CONFIG=/etc/slurm/slurm.conf
MARK="# written by mofgap tests/slurm/start_slurm.sh"
NODES="mofgap1 mofgap2"

fail() {
    echo "start_slurm: $*" >&2
    exit 1
}

stop() {
    for name in slurmd.mofgap1 slurmd.mofgap2 slurmctld munged; do
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
    cores=$(nproc --all) # plain nproc listens to OMP_NUM_THREADS, which tests set
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
SlurmdSpoolDir=$STATE/slurmd.%n
SlurmctldPidFile=$STATE/slurmctld.pid
SlurmdPidFile=$STATE/slurmd.%n.pid
SlurmctldLogFile=$STATE/slurmctld.log
SlurmdLogFile=$STATE/slurmd.%n.log
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
# Each node may fill all cores: they are one machine's twice.
NodeName=mofgap1 NodeHostname=$(hostname) Port=17001 CPUs=$cores RealMemory=$((memory_mb / 2)) State=UNKNOWN
NodeName=mofgap2 NodeHostname=$(hostname) Port=17002 CPUs=$cores RealMemory=$((memory_mb / 2)) State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
}

start() {
    local node
    mkdir -p "$STATE/ctld"
    chmod 755 "$STATE"
    if ! [ -S "$STATE/munge.socket" ] || ! munge -n -S "$STATE/munge.socket" >/dev/null 2>&1; then
        [ -f "$STATE/munge.key" ] || (umask 077 && head -c 1024 /dev/urandom >"$STATE/munge.key")
        munged --force --key-file="$STATE/munge.key" --socket="$STATE/munge.socket" \
            --pid-file="$STATE/munged.pid" --log-file="$STATE/munged.log" --seed-file="$STATE/munged.seed"
    fi
    scontrol ping 2>/dev/null | grep -q "UP" || slurmctld
    for node in $NODES; do
        mkdir -p "$STATE/slurmd.$node"
        pgrep -f "slurmd -N $node" >/dev/null || slurmd -N "$node"
    done
    for _ in $(seq 60); do
        if [ "$(sinfo -h -N -o %T 2>/dev/null | grep -cE "idle|mix|alloc")" = 2 ]; then
            sinfo
            return
        fi
        for node in $NODES; do
            scontrol update NodeName="$node" State=RESUME 2>/dev/null || true
        done
        sleep 1
    done
    tail -5 "$STATE"/slurmctld.log "$STATE"/slurmd.*.log >&2
    fail "the nodes did not come up within a minute"
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
