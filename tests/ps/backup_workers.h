// Workers whose gradients tell who pushed them, against servers that count only some of a step.
//
// The gradient of replica v is V - b at every V-th element of a parameter from element v on, and 0
// elsewhere; the servers average over V - b, and SGD has rate 1. So at version n element v of every
// slice is minus the number of steps before n that counted replica v: a version in which two slices
// disagree is a mix. Thread-safe where said.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

#include "ps/client.h"
#include "telemetry/mutex.h"
#include "tests/ps/servers.h"

namespace muster::ps {

// Several slices on every server, and a bundle. With 300 rows those of one server are above a
// quantum.
inline ParamTable CountingTable(int64_t rows = 80) {
  return *ParamTable::Make({{.name = "big", .shape = {rows, 611}},
                            {.name = "a", .shape = {77}},
                            {.name = "b", .shape = {40}},
                            {.name = "middle", .shape = {5, 1001}}});
}

// What all workers of a run have read. Thread-safe.
class Readings {
 public:
  Readings(const ParamTable& table, const Partition& partition, int replicas, int counted)
      : table_(table), partition_(partition), replicas_(replicas), counted_(counted) {}

  // Checks the parameters of version `version`.
  void Add(std::span<const float> weights, int64_t version) {
    const std::vector<int64_t> counts = CountsOf(weights, version);
    EXPECT_EQ(std::accumulate(counts.begin(), counts.end(), int64_t{0}), version * counted_)
        << "version " << version;
    MutexLock lock(mu_);
    const auto [at, first] = by_version_.try_emplace(version, counts);
    EXPECT_EQ(at->second, counts) << "two readings of version " << version;
    for (const auto& [older, newer] : {std::pair(version - 1, version), {version, version + 1}}) {
      const auto a = by_version_.find(older), b = by_version_.find(newer);
      if (a == by_version_.end() || b == by_version_.end()) continue;
      for (size_t v = 0; v < counts.size(); ++v) {
        const int64_t times = b->second[v] - a->second[v];
        EXPECT_TRUE(times == 0 || times == 1) << "step " << older << ", replica " << v;
      }
    }
    newest_ = std::max<int64_t>(newest_, version);
    changed_.NotifyAll();
  }
  void AwaitVersion(int64_t version) {
    MutexLock lock(mu_);
    while (newest_ < version) changed_.Wait(mu_);
  }
  // Steps before `version` that counted replica v. PRECONDITION: somebody read that version.
  int64_t Count(int64_t version, int32_t v) {
    MutexLock lock(mu_);
    return by_version_.at(version)[static_cast<size_t>(v)];
  }

 private:
  std::vector<int64_t> CountsOf(std::span<const float> weights, int64_t version) const {
    std::vector<int64_t> counts(static_cast<size_t>(replicas_), -1);
    for (const ParamSlice& slice : partition_.slices) {
      ForEachPart(table_, slice, [&](const ParamSlice& part, int64_t) {
        for (int64_t i = part.begin; i < part.begin + part.size; ++i) {
          int64_t& count = counts[static_cast<size_t>(i % replicas_)];
          const float w = weights[static_cast<size_t>(table_.offset(part.param) + i)];
          const int64_t here = std::lround(-w);
          if (count < 0) count = here;
          if (count == here) continue;
          ADD_FAILURE() << "version " << version << " is a mix: replica " << i % replicas_
                        << " counts " << count << " times, and " << here << " times in parameter "
                        << part.param << " element " << i;
          return;
        }
      });
    }
    return counts;
  }

  const ParamTable& table_;
  const Partition& partition_;
  const int replicas_, counted_;
  Mutex mu_;
  CondVar changed_;
  std::map<int64_t, std::vector<int64_t>> by_version_ ABSL_GUARDED_BY(mu_);
  int64_t newest_ ABSL_GUARDED_BY(mu_) = -1;
};

struct CountingWorker {
  std::vector<int32_t> replicas;
  int num_replicas = 0, backups = 0;
  // Called before a replica's gradient of `step` leaves, and again when half of it has.
  std::function<void(int64_t step, bool half)> before_push = [](int64_t, bool) {};
  std::function<void()> before_start = [] {};
  int64_t first = -1;                      // the step it began with
  std::vector<int64_t> missed;             // by own replica
  std::atomic<int64_t> reached = -1;       // thread-safe
  std::vector<std::vector<float>> arenas;  // of gradients: reused as soon as Wait has returned

  absl::Status Run(Servers& servers, const ParamTable& table, Readings& readings, int index,
                   int64_t from, int64_t to) {
    ClientOptions options;
    options.credit_bytes = 100'000;  // less than a step
    ASSIGN_OR_RETURN(const std::unique_ptr<Client> client,
                     ConnectWorker(servers, table, index, options));
    const auto size = static_cast<size_t>(table.arena_size());
    std::vector<float> weights(size, 0.0f);
    std::vector<std::shared_ptr<float[]>> gradients;
    for (size_t i = 0; i < replicas.size(); ++i) gradients.push_back(client->AllocateGradients());
    before_start();
    client->SetArena(weights);
    client->Pull(replicas[0], from, -1);
    RETURN_IF_ERROR(client->Wait(from));
    first = client->reached();
    for (int64_t step = first; step < to; step = client->reached()) {
      reached = step;
      readings.Add(weights, step);
      for (size_t r = 0; r < replicas.size(); ++r) {
        Fill(table, replicas[r], gradients[r].get());
        before_push(step, /*half=*/false);
        const auto params = static_cast<ParamId>(table.specs().size());
        for (ParamId p = params - 1; p >= 0; --p) {
          if (p == params / 2 - 1) before_push(step, /*half=*/true);
          client->Push(replicas[r], step, p,
                       {gradients[r].get() + table.offset(p),
                        static_cast<size_t>(table.specs()[static_cast<size_t>(p)].size())},
                       /*priority=*/p, r + 1 == replicas.size());
        }
      }
      RETURN_IF_ERROR(client->Wait(step + 1));
      // A server that still read them would add this.
      for (const auto& gradient : gradients) std::fill_n(gradient.get(), size, 1000.0f);
    }
    reached = to;
    client->PullAtClock(replicas[0], to);
    RETURN_IF_ERROR(client->Wait(to));
    readings.Add(weights, to);
    for (const int32_t replica : replicas) missed.push_back(client->missed(replica));
    return absl::OkStatus();
  }

 private:
  void Fill(const ParamTable& table, int32_t replica, float* out) const {
    std::fill_n(out, table.arena_size(), 0.0f);
    for (ParamId p = 0; p < static_cast<ParamId>(table.specs().size()); ++p) {
      for (int64_t i = replica; i < table.specs()[static_cast<size_t>(p)].size();
           i += num_replicas) {
        out[table.offset(p) + i] = static_cast<float>(num_replicas - backups);
      }
    }
  }
};

// One thread per worker; all from clock 0 to `steps`.
inline void RunCounting(Servers& servers, const ParamTable& table, Readings& readings,
                        std::vector<std::unique_ptr<CountingWorker>>& workers, int64_t steps) {
  std::vector<std::thread> threads;
  std::vector<absl::Status> status(workers.size());
  for (size_t i = 0; i < workers.size(); ++i) {
    threads.emplace_back([&, i] {
      status[i] = workers[i]->Run(servers, table, readings, static_cast<int>(i), 0, steps);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& one : status) EXPECT_TRUE(one.ok()) << one;
}

inline std::vector<std::unique_ptr<CountingWorker>> CountingWorkers(
    const std::vector<std::vector<int32_t>>& leases, int replicas, int backups) {
  std::vector<std::unique_ptr<CountingWorker>> workers;
  for (const auto& own : leases) {
    auto& worker = workers.emplace_back(std::make_unique<CountingWorker>());
    worker->replicas = own;
    worker->num_replicas = replicas;
    worker->backups = backups;
  }
  return workers;
}

}  // namespace muster::ps
