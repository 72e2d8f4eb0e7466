#include "tests/harness/cluster.h"

#include <unistd.h>

#include <thread>

#include "kernels/device.h"
#include "master/job_directory.h"
#include "master/roles.h"
#include "ps/checkpoint.h"
#include "rpc/inproc_transport.h"
#include "telemetry/check.h"
#include "telemetry/time.h"
#include "tests/harness/toy_module.h"

namespace muster::harness {
namespace {

rpc::Hello HelloOf(const std::string& role, int index) {
  rpc::Hello hello;
  hello.protocol_version = rpc::kProtocolVersion;
  hello.build_id = "test";
  hello.job_token = "token";
  hello.service = "control";
  hello.role = role;
  hello.index = index;
  return hello;
}

}  // namespace

Cluster::Cluster(ClusterOptions options) : options_(std::move(options)) {
  if (options_.transport == nullptr) own_transport_ = rpc::MakeInprocTransport();
  transport_ = options_.transport != nullptr ? options_.transport : own_transport_.get();
}

Cluster::~Cluster() = default;

ClusterResult Cluster::Run() {
  ClusterResult result;
  const auto log = Log::Discard();
  const master::JobDirectory dir(options_.job_dir);
  if (result.status = master::CreateJobDirectory(dir); !result.status.ok()) return result;
  const auto make_module = [this](const Job&) -> absl::StatusOr<std::unique_ptr<worker::Module>> {
    return options_.make_module ? options_.make_module() : MakeToyModule();
  };

  master::CoordinatorOptions coordinator;
  coordinator.job = options_.job;
  coordinator.chief = 1;
  coordinator.workers = options_.trainers - 1;
  coordinator.servers = options_.servers;
  coordinator.num_replicas = options_.replicas;
  coordinator.dir = dir;
  coordinator.transport = transport_;
  coordinator.listen_address = options_.listen_address;
  coordinator.self = HelloOf("master", 0);
  coordinator.log = log.get();
  coordinator.on_status = [this](const master::StatusLine& line) {
    if (options_.on_status) options_.on_status(line);
  };
  coordinator.now_ms = UnixMillis;
  coordinator.host = "here";
  coordinator.pid = getpid();
  coordinator.make_module = make_module;
  auto made = master::Coordinator::Make(std::move(coordinator));
  if (!made.ok()) {
    result.status = made.status();
    return result;
  }
  coordinator_ = *std::move(made);

  std::vector<std::thread> roles;
  const auto start = [&](const std::string& name, int index, auto run) {
    roles.emplace_back([this, name, index, run, &log, &make_module] {
      master::RoleOptions role;
      role.transport = transport_;
      role.log = log.get();
      role.self = HelloOf(name, index);
      role.master_address = coordinator_->address();
      role.listen_address = options_.listen_address;
      role.host = "here";
      role.pid = 1000 + index;
      role.make_device = [this]() -> absl::StatusOr<master::TrainerDevice> {
        if (options_.make_device) return options_.make_device();
        return master::MakeTrainerDevice(Training::CPU, Training::FP32, /*threads=*/1, {}, {});
      };
      role.make_module = make_module;
      if (absl::Status status = run(role); !status.ok()) coordinator_->Fail(std::move(status));
    });
  };
  for (int i = 0; i < options_.servers; ++i) start("ps", i, master::RunServerRole);
  start("chief", 0, master::RunTrainerRole);
  for (int i = 0; i + 1 < options_.trainers; ++i) start("worker", i, master::RunTrainerRole);
  result.status = coordinator_->Run();
  for (std::thread& role : roles) role.join();
  coordinator_.reset();

  if (auto state = master::ReadJobState(dir.state_json()); state.ok()) result.state = *state;
  if (auto checkpoint = master::NewestCheckpoint(dir, nullptr); checkpoint.ok()) {
    result.checkpoint_step = checkpoint->step;
    const auto module = *make_module(options_.job);
    const auto device = MakeCpuDevice(1);
    const auto table = ps::ParamTable::Make(module->MakeModel(*device)->params());
    CHECK(table.ok());
    const auto arena = ps::ReadFullParams(checkpoint->part_files(), *table);
    CHECK(arena.ok());
    for (size_t p = 0; p < table->specs().size(); ++p) {
      const auto begin = arena->begin() + table->offset(static_cast<ps::ParamId>(p));
      result.weights.insert(result.weights.end(), begin, begin + table->specs()[p].size());
    }
  }
  return result;
}

void Cluster::Interrupt(const std::string& reason) { coordinator_->Interrupt(reason); }

master::TrainerDevice Alone(std::unique_ptr<Device> device) {
  master::TrainerDevice made;
  made.description = device->name();
  made.loader_threads = device->host_memory() ? 1 : 2;
  made.devices.push_back(std::move(device));
  return made;
}

Job ToyJob(int64_t steps, int64_t checkpoint_interval) {
  Job job;
  job.set_job_id("toy");
  job.mutable_training_input()->set_python_module("toy");
  Training* training = job.mutable_training();
  training->set_seed(7);
  training->set_threads(1);
  training->set_batch_size(8);
  Stage* stage = training->add_schedule();
  stage->set_steps(steps);
  stage->set_learning_rate(0.2);
  training->mutable_checkpoints()->set_interval(checkpoint_interval);
  training->set_summary_interval(5);
  return job;
}

}  // namespace muster::harness
