#include "tests/harness/toy_runs.h"

#include <chrono>
#include <future>
#include <thread>
#include <utility>
#include <variant>

#include "tests/harness/temporary_folder.h"
#include "tests/harness/toy_module.h"

namespace muster::harness {

ClusterResult RunToy(const Job& job, int replicas, int trainers, int servers,
                     rpc::Transport* transport) {
  TemporaryFolder folder;
  ClusterOptions options;
  options.job = job;
  options.replicas = replicas;
  options.trainers = trainers;
  options.servers = servers;
  options.job_dir = folder.path();
  options.transport = transport;
  return Cluster(options).Run();
}

ClusterResult RunAndInterrupt(ClusterOptions options, int64_t at, int64_t end) {
  Cluster* running = nullptr;
  std::promise<void> stopping;
  bool interrupted = false;
  options.on_status = [&](const master::StatusLine& line) {
    const auto* progress = std::get_if<master::ProgressLine>(&line);
    if (progress != nullptr && progress->step >= at && !interrupted) {
      interrupted = true;
      running->Interrupt("a test");
    }
    const auto* state = std::get_if<master::StateLine>(&line);
    if (state != nullptr && state->state == master::RunState::kCancelling) stopping.set_value();
  };
  options.make_module = [end, after = stopping.get_future().share()] {
    return MakeToyModule({.before_get = [end, after](int64_t draw) {
      if (draw < end * 3 * 8) return;
      after.wait();
      // Slowly on, so that the job does not end before the trainers are told to stop.
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }});
  };
  Cluster cluster(std::move(options));
  running = &cluster;
  return cluster.Run();
}

}  // namespace muster::harness
