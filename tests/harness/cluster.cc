#include "tests/harness/cluster.h"

#include <unistd.h>

#include <thread>

#include "kernels/device.h"
#include "master/job_directory.h"
#include "master/one_process.h"
#include "master/roles.h"
#include "ps/checkpoint.h"
#include "rpc/inproc_transport.h"
#include "telemetry/check.h"
#include "telemetry/time.h"
#include "tests/harness/mortal_transport.h"
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

// One of a role.
struct Cluster::Process {
  Process(std::string of, int number, rpc::Transport& inner)
      : name(std::move(of)), index(number), transport(inner) {}
  const std::string name;
  const int index;
  MortalTransport transport;
  master::LeaveNotice leave;
};

Cluster::Cluster(ClusterOptions options) : options_(std::move(options)) {
  if (options_.transport == nullptr) own_transport_ = rpc::MakeInprocTransport();
  transport_ = options_.transport != nullptr ? options_.transport : own_transport_.get();
}

Cluster::~Cluster() = default;

ClusterResult Cluster::Run() {
  ClusterResult result;
  const master::JobDirectory dir(options_.job_dir);
  if (result.status = master::CreateJobDirectory(dir); !result.status.ok()) return result;
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
  coordinator.log = log_.get();
  coordinator.on_status = [this](const master::StatusLine& line) {
    if (options_.on_status) options_.on_status(line);
  };
  coordinator.now_ms = UnixMillis;
  coordinator.host = "here";
  coordinator.pid = getpid();
  coordinator.make_module = [this](const Job&) { return MakeModule(); };
  auto made = master::Coordinator::Make(std::move(coordinator));
  if (!made.ok()) {
    result.status = made.status();
    return result;
  }
  coordinator_ = *std::move(made);

  if (options_.one_process) {
    CHECK(options_.trainers == 1 && options_.servers == 1);
    shared_.make_device = [this] { return MakeDevice(); };
    master::ShareDevice(options_.job.training(), shared_);
  }
  for (int i = 0; i < options_.servers; ++i) StartRole("ps", i, master::RunServerRole);
  StartRole("chief", 0, master::RunTrainerRole);
  for (int i = 0; i + 1 < options_.trainers; ++i) Start(i);
  result.status = coordinator_->Run();
  std::vector<std::thread> roles;
  {
    MutexLock lock(mu_);
    over_ = true;
    roles.swap(roles_);
  }
  for (std::thread& role : roles) role.join();
  coordinator_.reset();

  if (auto state = master::ReadJobState(dir.state_json()); state.ok()) result.state = *state;
  if (auto checkpoint = master::NewestCheckpoint(dir, nullptr); checkpoint.ok()) {
    result.checkpoint_step = checkpoint->step;
    const auto module = MakeModule();
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

void Cluster::StartRole(const std::string& name, int index,
                        absl::Status (*run)(const master::RoleOptions&)) {
  MutexLock lock(mu_);
  if (over_) return;
  processes_.push_back(std::make_unique<Process>(name, index, *transport_));
  roles_.emplace_back([this, name, index, run, process = processes_.back().get()] {
    master::RoleOptions role;
    role.transport = &process->transport;
    role.log = options_.role_log != nullptr ? options_.role_log : log_.get();
    role.self = HelloOf(name, index);
    role.master_address = coordinator_->address();
    role.listen_address = options_.listen_address;
    role.host = "here";
    role.pid = 1000 + index;
    if (name == "worker") role.leave = &process->leave;
    role.make_device = [this] { return MakeDevice(); };
    role.make_module = [this](const Job&) { return MakeModule(); };
    role.server_device = shared_.server_device;
    if (options_.one_process) {
      role.residence = shared_.residence;
      role.make_device = shared_.make_device;
    }
    const absl::Status status = run(role);
    if (!status.ok() && !process->transport.is_cut()) coordinator_->Fail(status);
  });
}

Cluster::Process* Cluster::Newest(const std::string& role, int index) {
  for (auto it = processes_.rbegin(); it != processes_.rend(); ++it) {
    if ((*it)->name == role && (*it)->index == index) return it->get();
  }
  return nullptr;
}

void Cluster::Leave(int worker) {
  MutexLock lock(mu_);
  Newest("worker", worker)->leave.Give();
}

void Cluster::Kill(int worker, int64_t messages) {
  Process* process = nullptr;
  {
    MutexLock lock(mu_);
    process = Newest("worker", worker);
  }
  process->transport.Cut(messages);
}

void Cluster::Break(int trainer, int64_t messages) {
  Process* process = nullptr;
  {
    MutexLock lock(mu_);
    process = trainer == 0 ? Newest("chief", 0) : Newest("worker", trainer - 1);
  }
  process->transport.Break(messages);
}

void Cluster::Start(int worker) { StartRole("worker", worker, master::RunTrainerRole); }

absl::StatusOr<master::TrainerDevice> Cluster::MakeDevice() const {
  if (options_.make_device) return options_.make_device();
  return master::MakeTrainerDevice(Training::CPU, {}, /*threads=*/1, {}, {});
}

std::unique_ptr<worker::Module> Cluster::MakeModule() const {
  return options_.make_module ? options_.make_module() : MakeToyModule();
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
