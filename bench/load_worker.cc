#include "bench/load_worker.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "telemetry/check.h"

namespace muster::bench {
namespace {

constexpr int64_t kPage = 4096 / sizeof(float);

}  // namespace

Worker::Worker(const Load& load, const std::string& server)
    : Worker(load, std::vector{server}, Part{0, load.replicas, 0, load.params}) {}

Worker::Worker(const Load& load, const std::vector<std::string>& servers, Part part)
    : load_(load),
      part_(part),
      transport_(TransportOf(load, *log_)),
      table_(TableOf(load)),
      partition_(PartitionOf(load, table_)),
      client_(Must(ps::Client::Connect(*transport_, servers, HelloOf("worker"), table_, partition_,
                                       {}, *log_))) {
  weights_ = Must(client_->AllocateWeights());
  for (int v = 0; v < part.replicas; ++v) {
    auto& both = grads_.emplace_back();
    for (int64_t step = 0; step < 2; ++step) {
      both[static_cast<size_t>(step)] = client_->AllocateGradients();
      std::fill_n(both[static_cast<size_t>(step)].get(), table_.arena_size(),
                  GradientOf(part.first_replica + v, step));
    }
  }
  Pull();
}

void Worker::Step(bool pull) {
  for (int v = 0; v < part_.replicas; ++v) {
    const bool want = pull && v + 1 == part_.replicas;
    for (ps::ParamId p = part_.first_param; p < part_.first_param + part_.params; ++p) {
      client_->Push(part_.first_replica + v, step_, p,
                    {grads_[v][static_cast<size_t>(step_ % 2)].get() + table_.offset(p),
                     static_cast<size_t>(table_.specs()[p].size())},
                    p, want);
    }
    client_->Flush();
  }
  ++step_;
  Wait();
  if (pull && part_.params == load_.params) CheckEvery(kPage);
}

void Worker::Pull() {
  client_->Pull(part_.first_replica, step_, -1);
  Wait();
  CheckEvery(kPage);
}

void Worker::Check() {
  Pull();
  CheckArena();
}

void Worker::CheckArena() const { CheckEvery(1); }

void Worker::CheckEvery(int64_t stride) const {
  if (!load_.exact()) return;
  const float expected = WeightAfter(load_, step_);
  // A mean over 3 replicas is not exact.
  const float tolerance = std::has_single_bit(static_cast<unsigned>(load_.replicas))
                              ? 0.0F
                              : 1e-4F * std::abs(expected);
  const std::span<const float> weights = weights_->At(step_);
  for (ps::ParamId p = 0; p < load_.params; ++p) {
    const float* w = weights.data() + table_.offset(p);
    for (int64_t i = 0; i < load_.elements; i += stride) {
      __builtin_prefetch(w + i + 32 * stride);  // pages that no cache holds: 32 at a time
      CHECK_LE(std::abs(w[i] - expected), tolerance);
    }
  }
}

void Worker::Wait() {
  if (const absl::Status status = client_->Wait(step_); !status.ok()) Die(status);
}

}  // namespace muster::bench
