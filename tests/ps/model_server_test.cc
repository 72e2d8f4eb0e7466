// The real servers beside a trivially correct one, under random pushes, repeated pushes, pushes
// from the future, malformed messages and pulls: after each message, exactly the answers that the
// model gives must arrive, with exactly its values.
//
// Gradients are small whole numbers and V a power of two, so that float32 computes without rounding
// and the model needs no order.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <random>
#include <tuple>

#include "ps/checkpoint.h"
#include "ps/wire.h"
#include "telemetry/mutex.h"
#include "tests/ps/fakes.h"
#include "tests/ps/servers.h"

namespace muster::ps {
namespace {

// An answer as the worker sees it: an ACK's code, a PARAMS' version and values, or an error.
struct Answer {
  rpc::MessageType type;
  int worker;
  int32_t slice;
  int32_t replica;
  int64_t step;
  int64_t detail;
  std::vector<float> values;
  auto operator<=>(const Answer&) const = default;
};

void PrintTo(const Answer& a, std::ostream* out) {
  *out << "{type " << int{uint8_t(a.type)} << " worker " << a.worker << " slice " << a.slice
       << " replica " << a.replica << " step " << a.step << " detail " << a.detail << " first "
       << (a.values.empty() ? 0 : a.values[0]) << "}";
}

// One slice, in the plainest way: all history is kept, nothing is clever.
class ModelSlice {
 public:
  ModelSlice(std::string mode, int64_t staleness, int replicas, std::vector<float> first)
      : mode_(std::move(mode)), staleness_(staleness), clocks_(static_cast<size_t>(replicas), 0) {
    history_.push_back(std::move(first));
  }

  std::vector<Answer> Push(int worker, int32_t slice, int32_t v, int64_t step,
                           const std::vector<float>& gradient, bool want) {
    int64_t& clock = clocks_[static_cast<size_t>(v)];
    if (step > clock) return {{rpc::MessageType::kError, worker, slice, v, step, 0, {}}};
    AckCode code = AckCode::kRepeated;
    if (step == clock) {
      ++clock;
      code = AckCode::kConsumed;
      if (mode_ == "BSP") {
        // Held when a lower replica's gradient of this step is not in.
        for (int32_t u = 0; u < v; ++u) {
          if (!gradients_[{step, u}].empty()) continue;
          code = AckCode::kHeld;
        }
        gradients_[{step, v}] = gradient;
        ApplyWhenComplete();
      } else {
        Apply(gradient);
      }
    }
    std::vector<Answer> out = {
        {rpc::MessageType::kAck, worker, slice, v, step, static_cast<int64_t>(code), {}}};
    if (want) readers_.push_back({worker, slice, v, step + 1, -1});
    Answered(out);
    return out;
  }

  std::vector<Answer> Pull(int worker, int32_t slice, int32_t v, int64_t clock, int64_t version) {
    readers_.push_back({worker, slice, v, clock, version});
    std::vector<Answer> out;
    Answered(out);
    return out;
  }

  int64_t clock(int32_t v) const { return clocks_[static_cast<size_t>(v)]; }
  int64_t min_clock() const { return *std::min_element(clocks_.begin(), clocks_.end()); }
  int64_t version() const { return static_cast<int64_t>(history_.size()) - 1; }
  const std::vector<float>& weights() const { return history_.back(); }

 private:
  struct Reader {
    int worker;
    int32_t slice;
    int32_t v;
    int64_t clock;
    int64_t version;
  };

  void Apply(const std::vector<float>& sum) {
    std::vector<float> next = history_.back();
    for (size_t i = 0; i < next.size(); ++i) {
      next[i] -= sum[i] / static_cast<float>(clocks_.size());
    }
    history_.push_back(std::move(next));
  }

  void ApplyWhenComplete() {
    std::vector<float> sum(history_[0].size(), 0.0f);
    for (size_t v = 0; v < clocks_.size(); ++v) {
      const std::vector<float>& g = gradients_[{version(), static_cast<int32_t>(v)}];
      if (g.empty()) return;
      for (size_t i = 0; i < g.size(); ++i) sum[i] += g[i];
    }
    Apply(sum);
  }

  void Answered(std::vector<Answer>& out) {
    std::erase_if(readers_, [&](const Reader& r) {
      int64_t version = r.version;
      if (version < 0 && mode_ == "BSP") version = r.clock;
      if (version < 0) {
        const int64_t bound = mode_ == "SSP" ? r.clock - staleness_ : 0;
        if (min_clock() < bound) return false;
        version = this->version();
      }
      if (version > this->version()) return false;
      if (version < this->version() - 1) {
        out.push_back({rpc::MessageType::kError, r.worker, r.slice, r.v, r.clock, 0, {}});
      } else {
        out.push_back({rpc::MessageType::kParams, r.worker, r.slice, r.v, r.clock, version,
                       history_[static_cast<size_t>(version)]});
      }
      return true;
    });
  }

  const std::string mode_;
  const int64_t staleness_;
  std::vector<int64_t> clocks_;
  std::vector<std::vector<float>> history_;                              // by version
  std::map<std::pair<int64_t, int32_t>, std::vector<float>> gradients_;  // by step and replica
  std::vector<Reader> readers_;
};

// Collects what all workers are sent.
class Inbox {
 public:
  void Add(Answer answer) {
    MutexLock lock(mu_);
    answers_.push_back(std::move(answer));
    changed_.NotifyAll();
  }
  // The next n answers, sorted.
  std::vector<Answer> Take(size_t n) {
    MutexLock lock(mu_);
    while (answers_.size() < n) changed_.Wait(mu_);
    std::vector<Answer> out = std::move(answers_);
    answers_.clear();
    std::sort(out.begin(), out.end());
    return out;
  }

 private:
  Mutex mu_;
  CondVar changed_;
  std::vector<Answer> answers_ ABSL_GUARDED_BY(mu_);
};

class RecordingHandler final : public rpc::StreamHandler {
 public:
  RecordingHandler(Inbox& inbox, int worker) : inbox_(inbox), worker_(worker) {}
  void OnMessage(rpc::Message m) override {
    const rpc::Header& h = m.header;
    const bool params = h.type == rpc::MessageType::kParams;
    const int64_t detail = params ? h.version : h.type == rpc::MessageType::kError ? 0 : h.code;
    inbox_.Add({h.type, worker_, static_cast<int32_t>(h.slice), static_cast<int32_t>(h.replica),
                h.step, detail, params ? FloatsOf(m) : std::vector<float>{}});
  }
  void OnClosed(absl::Status) override {}

 private:
  Inbox& inbox_;
  const int worker_;
};

struct Setting {
  std::string mode;
  int64_t staleness;
  int replicas;
  int servers;
  int shards;
};

void PrintTo(const Setting& s, std::ostream* out) {
  *out << s.mode << " staleness " << s.staleness << ", " << s.replicas << " replicas, " << s.servers
       << " servers of " << s.shards << " shards";
}

class ModelServerTest : public testing::TestWithParam<Setting> {
 protected:
  ModelServerTest() {
    table_ = *ParamTable::Make({
        {.name = "a", .shape = {3000}, .init = {Init::Kind::kConstant, 8}},
        {.name = "b", .shape = {7}, .init = {Init::Kind::kConstant, -4}},
        {.name = "c", .shape = {5, 100}, .init = {Init::Kind::kConstant, 2}},
    });
    const Setting& s = GetParam();
    servers_ = std::make_unique<Servers>(table_, JobOptions{.mode = s.mode,
                                                            .staleness = s.staleness,
                                                            .replicas = s.replicas,
                                                            .servers = s.servers,
                                                            .shards = s.shards});
    servers_->Initialize();
    for (const ParamSlice& slice : servers_->partition().slices) {
      std::vector<float> first(static_cast<size_t>(slice.size), 0.0f);
      ForEachPart(table_, slice, [&](const ParamSlice& part, int64_t at) {
        std::fill_n(first.begin() + at, part.size,
                    table_.specs()[static_cast<size_t>(part.param)].init.value);
      });
      model_.emplace_back(s.mode, s.staleness, s.replicas, std::move(first));
    }
    // Two workers, each with a stream to every server; any replica may come through either.
    for (int worker = 0; worker < 2; ++worker) {
      for (const std::string& address : servers_->addresses()) {
        streams_[worker].push_back(*servers_->transport().Connect(
            address, WorkerHello(worker), std::make_unique<RecordingHandler>(inbox_, worker),
            10'000));
      }
    }
  }
  ~ModelServerTest() override {
    for (auto& streams : streams_) {
      for (auto& stream : streams) stream->Close();
    }
    servers_.reset();
  }

  void Send(int worker, rpc::Message message) {
    const auto server = static_cast<size_t>(servers_->partition().server[message.header.slice]);
    ASSERT_TRUE(streams_[worker][server]->Send(std::move(message)).ok());
  }

  void Expect(std::vector<Answer> expected, const char* what) {
    std::sort(expected.begin(), expected.end());
    ASSERT_EQ(inbox_.Take(expected.size()), expected) << what;
  }

  // One random message and its answers.
  void Operate(std::mt19937& rng) {
    const int replicas = GetParam().replicas;
    const int worker = static_cast<int>(rng() % 2);
    const auto slice = static_cast<int32_t>(rng() % model_.size());
    const auto v = static_cast<int32_t>(rng() % static_cast<uint32_t>(replicas));
    ModelSlice& model = model_[static_cast<size_t>(slice)];
    const auto at_most = [&](int64_t n) {
      return static_cast<int64_t>(rng() % static_cast<uint64_t>(n + 1));
    };
    switch (rng() % 8) {
      default: {  // the next step, mostly; sometimes an old one, or one too far
        int64_t step = model.clock(v);
        const bool next = rng() % 4 != 0;
        if (!next) step = at_most(model.clock(v) + 1);
        // In BSP a replica has read what it pushes from: it is never more than a step ahead.
        if (GetParam().mode == "BSP" && step > model.version() && step <= model.clock(v)) return;
        std::vector<float> gradient(model.weights().size());
        for (float& g : gradient) g = static_cast<float>(static_cast<int>(rng() % 17) - 8);
        const bool want = rng() % 2 == 0;
        const auto expected = model.Push(worker, slice, v, step, gradient, want);
        const rpc::Payload payload = rpc::Payload::Own(
            std::string(reinterpret_cast<const char*>(gradient.data()), gradient.size() * 4));
        Send(worker, PushMessage(slice, v, step, want, payload));
        Expect(expected, "push");
        break;
      }
      case 1: {
        const int64_t clock = at_most(model.clock(v));
        const auto expected = model.Pull(worker, slice, v, clock, -1);
        Send(worker, PullMessage(slice, v, clock, -1, false));
        Expect(expected, "pull");
        break;
      }
      case 2: {
        const int64_t version = at_most(model.version());
        const auto expected = model.Pull(worker, slice, v, version, version);
        Send(worker, PullMessage(slice, v, version, version, false));
        Expect(expected, "pull of a version");
        break;
      }
      case 3: {  // something malformed
        rpc::Message bad = PushMessage(slice, v, model.clock(v), true, rpc::Payload::Own("abc"));
        if (rng() % 2 == 0) bad.header.replica = 1000;
        const Answer error = {
            rpc::MessageType::kError, worker, slice, static_cast<int32_t>(bad.header.replica),
            bad.header.step,          0,      {}};
        Send(worker, std::move(bad));
        Expect({error}, "malformed");
        break;
      }
    }
  }

  ParamTable table_;
  std::unique_ptr<Servers> servers_;
  std::vector<ModelSlice> model_;  // by slice
  Inbox inbox_;
  std::vector<std::shared_ptr<rpc::Stream>> streams_[2];  // by worker, then server
};

TEST_P(ModelServerTest, EveryAnswerIsTheModels) {
  const uint32_t seed = 7 + static_cast<uint32_t>(GetParam().servers);
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 rng(seed);
  for (int i = 0; i < 3000 && !HasFatalFailure(); ++i) Operate(rng);
  int64_t versions = 0;
  for (const ModelSlice& slice : model_) versions += slice.version();
  EXPECT_GT(versions, 100) << "too few applies to mean anything";
}

INSTANTIATE_TEST_SUITE_P(Modes, ModelServerTest,
                         testing::Values(Setting{"BSP", 0, 1, 1, 1}, Setting{"BSP", 0, 4, 1, 2},
                                         Setting{"BSP", 0, 4, 2, 1}, Setting{"BSP", 0, 2, 3, 2},
                                         Setting{"SSP", 0, 4, 1, 1}, Setting{"SSP", 2, 4, 2, 2},
                                         Setting{"SSP", 1, 2, 3, 1}, Setting{"ASYNC", 0, 4, 1, 2},
                                         Setting{"ASYNC", 0, 2, 2, 1},
                                         Setting{"ASYNC", 0, 8, 3, 2}),
                         [](const auto& info) {
                           const Setting& s = info.param;
                           return s.mode + std::to_string(s.staleness) + "_V" +
                                  std::to_string(s.replicas) + "_servers" +
                                  std::to_string(s.servers) + "_shards" + std::to_string(s.shards);
                         });

}  // namespace
}  // namespace muster::ps
