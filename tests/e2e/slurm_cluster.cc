#include "tests/e2e/slurm_cluster.h"

#include <fmt/format.h>
#include <unistd.h>

#include <sstream>

#include "tests/e2e/programs.h"
#include "tests/e2e/shell.h"

namespace muster::e2e {
namespace {

constexpr int kNodes = 4;

std::string Configuration(const std::string& folder) {
  const int port = 20'000 + 10 * (getpid() % 1000);
  std::string text = fmt::format(
      R"(ClusterName=muster
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={0}/munge/munge.sock
CryptoType=crypto/munge
SlurmctldPort={1}
SlurmctldPidFile={0}/ctld.pid
SlurmdPidFile={0}/slurmd.%n.pid
StateSaveLocation={0}/state
SlurmdSpoolDir={0}/spool.%n
SlurmctldLogFile={0}/ctld.log
SlurmdLogFile={0}/slurmd.%n.log
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_min_interval=0,batch_sched_delay=0
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
KillWait=2
SlurmdParameters=config_overrides
)",
      folder, port);
  for (int i = 1; i <= kNodes; ++i) {
    text += fmt::format(
        "NodeName=n{} NodeHostname=localhost NodeAddr=127.0.0.1 Port={} CPUs=4 RealMemory=16000 "
        "State=UNKNOWN\n",
        i, port + i);
  }
  return text + "PartitionName=main Nodes=n[1-4] Default=YES MaxTime=INFINITE State=UP\n";
}

}  // namespace

SlurmCluster::SlurmCluster(std::string folder) : folder_(std::move(folder)) {
  if (geteuid() != 0) {
    problem_ = "needs root";
    return;
  }
  WriteText(folder_ + "/slurm.conf", Configuration(folder_));
  WriteText(folder_ + "/cgroup.conf", "");
  const ShellOutput made = Shell(fmt::format(
      R"sh(cd {0}
for tool in slurmctld slurmd munged sbatch srun; do command -v $tool >/dev/null || {{ echo "needs $tool"; exit 1; }}; done
mkdir -p munge state; chmod 755 {0} munge; head -c 1024 /dev/urandom >munge/key; chown -R munge:munge munge; chmod 400 munge/key
for d in {0} $(dirname {0}); do chmod a+x $d; done
setpriv --reuid=munge --regid=munge --clear-groups munged --force --socket={0}/munge/munge.sock --key-file={0}/munge/key --log-file={0}/munge/log --pid-file={0}/munge/pid --seed-file={0}/munge/seed || exit 1
export SLURM_CONF={0}/slurm.conf
slurmctld -c || exit 1
for i in 1 2 3 4; do slurmd -N n$i || exit 1; done
n=0; until [ "$(sinfo -h -t idle -o %D)" = 4 ]; do n=$((n+1)); [ $n -lt 100 ] || {{ sinfo; tail -3 ctld.log; exit 1; }}; sleep 0.1; done
)sh",
      folder_));
  if (made.code != 0) problem_ = "cannot start a Slurm: " + made.text;
}

SlurmCluster::~SlurmCluster() {
  // What runs on the nodes does not end with their daemons.
  Run("scancel --quiet $(squeue -h -o %A); n=0; while [ -n \"$(squeue -h -o %A)\" ]; do "
      "n=$((n+1)); [ $n -lt 100 ] || break; sleep 0.1; done");
  Shell(fmt::format("cd {} && cat *.pid munge/pid 2>/dev/null | xargs -r kill -9", folder_));
}

std::map<std::string, std::string> SlurmCluster::environment() const {
  return {{"SLURM_CONF", folder_ + "/slurm.conf"}};
}

std::string SlurmCluster::Run(const std::string& command) const {
  return Shell(fmt::format("export SLURM_CONF={}/slurm.conf; {}", folder_, command)).text;
}

std::vector<std::string> SlurmCluster::Queue() const {
  std::istringstream lines(
      Run("squeue -h -t pending,configuring,running,completing -o '%A|%j|%T'"));
  std::vector<std::string> jobs;
  for (std::string line; std::getline(lines, line);) jobs.push_back(line);
  return jobs;
}

void SlurmCluster::SetNode(int node, bool up) const {
  Run(fmt::format("scontrol update nodename=n{} state={} reason=test", node,
                  up ? "resume" : "down"));
}

}  // namespace muster::e2e
