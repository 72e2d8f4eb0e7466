// One slice with what it needs, and recorded streams for its workers. Thread-compatible.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "ps/slice.h"
#include "tests/ps/fakes.h"

namespace muster::ps {

// A slice of two weights, [1, 1], and SGD with rate 1: version n holds 1 minus the sum of the
// means.
class SliceTest : public testing::Test {
 protected:
  void Make(const std::string& mode, int replicas, int64_t staleness = 0, int64_t budget = 1 << 20,
            ParamSpec spec = {.name = "w", .shape = {2}, .init = {Init::Kind::kConstant, 1}}) {
    Make(mode, replicas, staleness, budget, std::vector<ParamSpec>{std::move(spec)});
  }
  void Make(const std::string& mode, int replicas, int64_t staleness, int64_t budget,
            std::vector<ParamSpec> specs) {
    table_ = *ParamTable::Make(std::move(specs));
    partition_ = MakePartition(table_, 1);
    policy_ = *MakeConsistencyPolicy(mode, staleness, scale_by_staleness_, backups_);
    options_.num_replicas = replicas;
    events_.on_bad_push = [this](const absl::Status& status) { bad_.push_back(status); };
    events_.on_cut = [this](int64_t clock, const std::string& file, const absl::Status& status) {
      cuts_done_.push_back({clock, file, status});
    };
    cuts_ = std::make_unique<CutWriter>(table_, partition_, optimizer_->slot_names(), 0, events_);
    held_ = std::make_unique<HeldGradients>(budget, budget + (1 << 20), outbox_);
    context_ = {&table_,     &partition_,   policy_.get(), optimizer_.get(), &schedule_,
                &options_,   &events_,      &counters_,    held_.get(),      &outbox_,
                cuts_.get(), stream_.get(), [] {}};
    slice_ = std::make_unique<Slice>(context_, 0);
    slice_->Initialize();
    streams_.clear();
    peers_.clear();
    for (int v = 0; v < replicas; ++v) {
      streams_.push_back(std::make_shared<FakeStream>());
      peers_.push_back(std::make_shared<Peer>(streams_.back()));
    }
  }

  rpc::Payload Own(const std::vector<float>& values) {
    auto owned = std::make_shared<const std::vector<float>>(values);
    return rpc::Payload::Borrow(std::as_bytes(std::span(*owned)), owned);
  }
  void Push(int v, int64_t step, const std::vector<float>& gradient, bool want = true) {
    slice_->OnPush(peers_[static_cast<size_t>(v)], PushMessage(0, v, step, want, Own(gradient)));
  }
  void Pull(int v, int64_t clock, int64_t version = -1, bool all_at_clock = false) {
    slice_->OnPull(peers_[static_cast<size_t>(v)], PullMessage(0, v, clock, version, all_at_clock));
  }
  void Totals(int v, int64_t step, NormRound round, const std::vector<double>& totals) {
    slice_->OnTotals(peers_[static_cast<size_t>(v)], TotalsMessage(0, step, round, totals));
  }
  // What replica v was sent since the last call, as text.
  std::vector<std::string> Heard(int v) {
    std::vector<std::string> out;
    for (const rpc::Message& m : streams_[static_cast<size_t>(v)]->Take()) {
      if (m.header.type == rpc::MessageType::kAck) {
        const char* names[] = {"consumed", "held", "repeated", "late", "gone"};
        out.push_back(fmt::format("{} {}", names[m.header.code], m.header.step));
      } else if (m.header.type == rpc::MessageType::kParams) {
        const std::vector<float> w = FloatsOf(m);
        out.push_back(
            fmt::format("params {} v{}: {} {}", m.header.step, m.header.version, w[0], w[1]));
      } else if (m.header.type == rpc::MessageType::kNorms) {
        out.push_back(fmt::format("norms {} of {}: {}", m.header.code, m.header.step,
                                  fmt::join(DoublesOf(m.payload), " ")));
      } else {
        out.push_back("error: " + std::string(StatusOf(m).message()));
      }
    }
    return out;
  }

  struct CutDone {
    int64_t clock;
    std::string file;
    absl::Status status;
  };

  bool scale_by_staleness_ = false;
  int backups_ = 0;
  ParamTable table_;
  Partition partition_;
  std::unique_ptr<const ConsistencyPolicy> policy_;
  std::unique_ptr<const Optimizer> optimizer_ = *MakeOptimizer("sgd", {});
  Schedule schedule_ = [](int64_t) { return 1.0f; };
  ServerOptions options_;
  ServerEvents events_;
  ServerCounters counters_;
  const std::unique_ptr<Device> cpu_ = MakeCpuDevice(1);
  const std::unique_ptr<Stream> stream_ = cpu_->MakeStream();
  BlockContext context_;
  std::vector<absl::Status> bad_;
  std::vector<CutDone> cuts_done_;
  Outbox outbox_;
  std::unique_ptr<HeldGradients> held_;
  std::unique_ptr<CutWriter> cuts_;
  std::unique_ptr<Slice> slice_;
  std::vector<std::shared_ptr<FakeStream>> streams_;
  std::vector<std::shared_ptr<Peer>> peers_;
};

}  // namespace muster::ps
