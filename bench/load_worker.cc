#include "bench/load_worker.h"

#include <algorithm>

#include "telemetry/check.h"

namespace muster::bench {

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
    grads_.push_back(client_->AllocateGradients());
    std::fill_n(grads_.back().get(), table_.arena_size(),
                static_cast<float>(part.first_replica + v + 1));
  }
  Pull();
}

void Worker::Step(bool pull) {
  for (int v = 0; v < part_.replicas; ++v) {
    const bool want = pull && v + 1 == part_.replicas;
    for (ps::ParamId p = part_.first_param; p < part_.first_param + part_.params; ++p) {
      client_->Push(
          part_.first_replica + v, step_, p,
          {grads_[v].get() + table_.offset(p), static_cast<size_t>(table_.specs()[p].size())}, p,
          want);
    }
    client_->Flush();
  }
  ++step_;
  Wait();
}

void Worker::Pull() {
  client_->Pull(part_.first_replica, step_, -1);
  Wait();
}

void Worker::Check() {
  Pull();
  CheckArena();
}

void Worker::CheckArena() const {
  if (load_.optimizer != "sgd") return;
  const float expected =
      -kRate * static_cast<float>(step_) * static_cast<float>(load_.replicas + 1) / 2;
  const std::span<const float> weights = weights_->At(step_);
  for (ps::ParamId p = 0; p < load_.params; ++p) {
    for (int64_t i = 0; i < load_.elements; ++i) {
      CHECK_EQ(weights[table_.offset(p) + i], expected);
    }
  }
}

void Worker::Wait() {
  if (const absl::Status status = client_->Wait(step_); !status.ok()) Die(status);
}

}  // namespace muster::bench
