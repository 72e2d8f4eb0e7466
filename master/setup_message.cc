#include "master/setup_message.h"

#include <string>

#include "master/remote_files.h"
#include "master/resume.h"
#include "ps/param_message.h"
#include "ps/residuals.h"

namespace muster::master {
namespace {

JobPlace PlaceOf(const JobDirectory& dir) {
  JobPlace place;
  place.set_directory(dir.root());
  place.set_id(FolderId(dir.root()));
  return place;
}

}  // namespace

MasterMessage TrainerSetupMessage(const Job& job, const RunStart& run, int replicas,
                                  const std::vector<int32_t>& leases, const JobDirectory& dir) {
  MasterMessage message;
  TrainerSetup* setup = message.mutable_trainer_setup();
  *setup->mutable_job() = job;
  setup->set_num_replicas(replicas);
  setup->mutable_leases()->Assign(leases.begin(), leases.end());
  setup->set_start_clock(run.start);
  setup->set_target_clock(run.total);
  setup->set_trace_dir(dir.trace_parts());
  *setup->mutable_place() = PlaceOf(dir);
  if (!ps::HasResiduals(run.table)) return message;
  setup->set_checkpoint_dir(dir.checkpoints());
  const auto cuts = CutClocks(run.start, run.total, job.training().checkpoints().interval());
  setup->mutable_residual_cuts()->Assign(cuts.begin(), cuts.end());
  if (!run.resume.has_value()) return message;
  const std::vector<std::string> files = run.resume->residual_files();
  if (static_cast<int>(files.size()) != replicas) return message;  // told as LosesResiduals
  for (const int32_t replica : leases) {
    setup->add_residual_files(files[static_cast<size_t>(replica)]);
  }
  return message;
}

MasterMessage ServerSetupMessage(const Job& job, const RunStart& run, int replicas, int servers,
                                 const JobDirectory& dir) {
  MasterMessage message;
  ServerSetup* setup = message.mutable_server_setup();
  *setup->mutable_job() = job;
  ps::ToMessage(run.table.specs(), setup->mutable_params());
  setup->set_num_servers(servers);
  setup->set_num_replicas(replicas);
  setup->set_start_clock(run.start);
  if (run.resume.has_value()) {
    for (const std::string& file : run.resume->part_files()) setup->add_restore_files(file);
  }
  setup->set_checkpoint_dir(dir.checkpoints());
  const auto cuts = CutClocks(run.start, run.total, job.training().checkpoints().interval());
  setup->mutable_cuts()->Assign(cuts.begin(), cuts.end());
  setup->set_trace_dir(dir.trace_parts());
  *setup->mutable_place() = PlaceOf(dir);
  return message;
}

MasterMessage PlacementMessage(const RunStart& run, const std::vector<Member>& members,
                               const Leases& leases, const SetTarget& target) {
  MasterMessage message;
  Placement* placement = message.mutable_placement();
  placement->mutable_leases()->Assign(leases.begin(), leases.end());
  *placement->mutable_target() = target;
  ps::ToMessage(run.table.specs(), placement->mutable_params());
  for (const Member& member : members) {
    if (!IsTrainer(member.role)) placement->add_servers(member.params_address);
  }
  return message;
}

}  // namespace muster::master
