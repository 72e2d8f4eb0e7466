// Worker: trains a Load against the process that serves it, and checks what comes back. For
// benchmarks: what fails ends the program.
//
// Thread-compatible. Owns its transport, client and arenas.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "bench/load.h"
#include "ps/client.h"

namespace muster::bench {

// Whose gradients a Worker pushes, and of which parameters.
struct Part {
  int first_replica = 0, replicas = 1;
  ps::ParamId first_param = 0, params = 1;
};

// Pushes small integers, different ones for each replica and every second step. What comes back is
// looked at in each page of 4 KiB.
class Worker {
 public:
  // Connects and pulls. The second one pushes only a part of the load.
  Worker(const Load& load, const std::string& server);
  Worker(const Load& load, const std::vector<std::string>& servers, Part part);

  // One step of all replicas; with `pull` the parameters come back.
  void Step(bool pull);
  void Pull();
  // Every gradient was counted once.
  void Check();
  // So it is in what the last Step or Pull brought.
  void CheckArena() const;

 private:
  void Wait();
  // Looks at one element in `stride`.
  void CheckEvery(int64_t stride) const;

  const Load load_;
  const Part part_;
  const std::unique_ptr<Log> log_ = Log::Discard();
  const std::unique_ptr<rpc::Transport> transport_;
  const ps::ParamTable table_;
  const ps::Partition partition_;
  std::shared_ptr<const ps::WeightArenas> weights_;
  std::vector<std::array<std::shared_ptr<float[]>, 2>> grads_;  // of even and odd steps
  const std::unique_ptr<ps::Client> client_;  // destroyed first: it borrows all of the above
  int64_t step_ = 0;
};

}  // namespace muster::bench
