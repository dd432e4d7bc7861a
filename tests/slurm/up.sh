#!/bin/bash
# A single-node SLURM with accounting, on loopback, without systemd and cgroups; for the slow tests. Run as root.
#   apt-get install -y --no-install-recommends slurm-wlm munge slurmdbd mariadb-server
#   tests/slurm/up.sh STATE_DIR && export SLURM_CONF=STATE_DIR/slurm.conf ... tests/slurm/down.sh STATE_DIR
# Two partitions share the node: jobs of `urgent` pre-empt those of `normal`, which are requeued.
set -e
state=${1:?usage: up.sh STATE_DIR}
host=$(hostname -s)
await() {  # seconds, command...
    local last=$((SECONDS + $1)); shift
    until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $last ] || { echo "waited in vain: $*" >&2; exit 1; }; sleep 0.2; done
}
mkdir -p "$state"/{save,spool,log} /run/munge
: > "$state/pids"
ulimit -n 4096  # the daemons close every descriptor that there might be
chown munge:munge /run/munge
if ! munge -n >/dev/null 2>&1; then
    setpriv --reuid munge --regid munge --clear-groups /usr/sbin/munged
    cat /run/munge/munged.pid >> "$state/pids"
fi
# accounting: without it nobody learns that a job was killed
[ -d "$state/db/mysql" ] || mariadb-install-db --no-defaults --user=root --datadir="$state/db" \
    --auth-root-authentication-method=normal --skip-test-db > "$state/log/install.log" 2>&1
mariadbd --no-defaults --user=root --datadir="$state/db" --socket="$state/db.sock" --skip-networking \
    --innodb-buffer-pool-size=64M --innodb-log-file-size=16M --innodb-lock-wait-timeout=900 \
    > "$state/log/mariadb.log" 2>&1 &
echo $! >> "$state/pids"
await 60 mariadb --no-defaults -S "$state/db.sock" -e 'create database if not exists slurm_acct_db'
cat > "$state/slurmdbd.conf" <<CONF
AuthType=auth/munge
DbdHost=$host
DbdAddr=127.0.0.1
DbdPort=16819
SlurmUser=root
LogFile=$state/log/slurmdbd.log
PidFile=$state/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
CommunicationParameters=NoInAddrAny
CONF
chmod 600 "$state/slurmdbd.conf"
cat > "$state/slurm.conf" <<CONF
ClusterName=loop
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=16819
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
KillWait=10
MinJobAge=300
StateSaveLocation=$state/save
SlurmdSpoolDir=$state/spool
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/slurmd.pid
SlurmctldLogFile=$state/log/slurmctld.log
SlurmdLogFile=$state/log/slurmd.log
SlurmctldPort=16817
SlurmdPort=16818
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc --all) RealMemory=4000 State=UNKNOWN
PartitionName=normal Nodes=$host Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=20
PartitionName=urgent Nodes=$host MaxTime=INFINITE State=UP PriorityTier=10
CONF
export SLURM_CONF=$state/slurm.conf MYSQL_UNIX_PORT=$state/db.sock
slurmdbd
await 60 sacctmgr -n show cluster
cat "$state/slurmdbd.pid" >> "$state/pids"
sacctmgr -i add cluster loop >/dev/null 2>&1 || true
slurmctld
await 20 sh -c 'scontrol ping | grep -q UP'
cat "$state/slurmctld.pid" >> "$state/pids"
slurmd
await 20 sh -c 'sinfo -h -o %t | grep -q idle'
cat "$state/slurmd.pid" >> "$state/pids"
sinfo
