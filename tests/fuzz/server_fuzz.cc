// A worker that sends anything: good pushes and pulls, repeated ones, ones of another step, wrong
// headers and sizes, values that are not finite, totals of norms that are right, wrong or not asked
// for, over streams that it cuts. The server beside it is
// the real one; a model of what must have become of the weights says whether it is right.
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ps/server.h"
#include "ps/wire.h"
#include "rpc/inproc_transport.h"
#include "telemetry/check.h"
#include "telemetry/mutex.h"
#include "tests/fuzz/input.h"

namespace muster::ps {
namespace {

using fuzz::Input;

constexpr int kReplicas = 2;
constexpr int kMostMessages = 64;  // of one case
constexpr float kInitial = 2;

struct Gradient {
  std::vector<float> values;
  bool finite() const {
    for (const float value : values) {
      if (!std::isfinite(value)) return false;
    }
    return true;
  }
};

// What a slice must be after each message, said as plainly as can be: SGD with rate 1. Values are
// multiples of 1/2 and small, so every sum is exact.
class SliceModel {
 public:
  // `two_phases`: a step waits for the totals of its norms; nothing is ever clipped. `counts` says
  // which elements the norm is of.
  SliceModel(bool bsp, bool two_phases, std::vector<float> first, std::vector<bool> counts)
      : bsp_(bsp),
        two_phases_(two_phases),
        counts_(std::move(counts)),
        versions_(1, std::move(first)) {}

  int64_t pushes = 0, repeated = 0, refused = 0;

  int64_t version() const { return static_cast<int64_t>(versions_.size()) - 1; }
  const std::vector<float>& weights(int64_t version) const {
    return versions_[static_cast<size_t>(version)];
  }
  int64_t clock(int replica) const { return clocks_[replica]; }
  bool poisoned() const { return poisoned_; }

  void Push(int replica, int64_t step, Gradient gradient) {
    if (step > clocks_[replica] || poisoned_) {
      ++refused;
      return;
    }
    asked_ |= replica == 0;
    if (step < clocks_[replica]) {
      ++repeated;
    } else if (!bsp_) {
      if (!gradient.finite()) {
        ++refused;
        return;
      }
      Count(replica);
      Apply({std::move(gradient)});
    } else if (step == version() && replica == next_ && !gradient.finite()) {
      // Alone it changed nothing, and may come again.
      ++refused;
      poisoned_ = replica > 0;
    } else {
      Count(replica);
      held_[{step, replica}] = std::move(gradient);
      FoldHeld();
    }
  }
  void Totals(int64_t step, NormRound round, double total) {
    if (!waits_ || step != version() || round != NormRound::kGradient || !asked_) {
      ++repeated;
    } else if (!(total >= own_) || !std::isfinite(total)) {
      ++refused;
    } else {
      waits_ = false;
      next_ = 0;
      Apply();
      FoldHeld();
    }
  }
  // The squares that a step that waits has itself.
  double own() const { return own_; }
  // The stream that was asked for totals is gone.
  void Detach() { asked_ = false; }

 private:
  void Count(int replica) {
    ++pushes;
    ++clocks_[replica];
  }
  void FoldHeld() {
    for (;;) {
      const auto found = held_.find({version(), next_});
      if (found == held_.end()) return;
      if (!found->second.finite()) {
        poisoned_ = true;
        return;
      }
      if (++next_ < kReplicas) continue;
      if (two_phases_) return Wait();
      next_ = 0;
      Apply();
    }
  }
  void Wait() {
    waits_ = true;
    own_ = 0;
    for (size_t i = 0; i < counts_.size(); ++i) {
      double sum = 0;
      for (int v = 0; v < kReplicas; ++v) sum += held_[{version(), v}].values[i];
      own_ += counts_[i] ? sum * sum : 0;
    }
  }
  void Apply() {
    std::vector<Gradient> all;
    for (int v = 0; v < kReplicas; ++v) all.push_back(held_[{version(), v}]);
    Apply(all);
  }
  void Apply(const std::vector<Gradient>& gradients) {
    std::vector<float> next = versions_.back();
    for (size_t i = 0; i < next.size(); ++i) {
      for (const Gradient& gradient : gradients) next[i] -= gradient.values[i] / kReplicas;
    }
    versions_.push_back(std::move(next));
  }

  const bool bsp_;
  const bool two_phases_;
  const std::vector<bool> counts_;
  bool waits_ = false;
  bool asked_ = false;  // the stream that is open
  double own_ = 0;
  std::vector<std::vector<float>> versions_;
  int64_t clocks_[kReplicas] = {};
  int next_ = 0;
  std::map<std::pair<int64_t, int>, Gradient> held_;
  bool poisoned_ = false;
};

// Answers of the server. Thread-safe.
class Answers {
 public:
  // The next answer to what the barrier or the reader asks; others are dropped.
  rpc::Message Next() {
    MutexLock lock(mu_);
    while (!answer_.has_value()) changed_.Wait(mu_);
    return *std::exchange(answer_, std::nullopt);
  }
  void Listen(bool listen) {
    MutexLock lock(mu_);
    listen_ = listen;
  }
  void Take(rpc::Message message) {
    MutexLock lock(mu_);
    if ((message.header.flags & kAskClock) == 0 && !listen_) return;
    answer_ = std::move(message);
    changed_.NotifyAll();
  }

 private:
  Mutex mu_;
  CondVar changed_;
  bool listen_ ABSL_GUARDED_BY(mu_) = false;
  std::optional<rpc::Message> answer_ ABSL_GUARDED_BY(mu_);
};

class Handler final : public rpc::StreamHandler {
 public:
  explicit Handler(std::shared_ptr<Answers> answers) : answers_(std::move(answers)) {}
  void OnMessage(rpc::Message message) override { answers_->Take(std::move(message)); }
  void OnClosed(absl::Status) override {}

 private:
  const std::shared_ptr<Answers> answers_;
};

class Case {
 public:
  explicit Case(Input& input)
      : input_(input),
        mode_(input.Below(3)),
        bsp_(mode_ != 1),
        policy_(*MakeConsistencyPolicy(bsp_ ? "BSP" : "ASYNC", 0)) {
    for (const ParamSlice& slice : partition_.slices) {
      std::vector<float> first(static_cast<size_t>(slice.size), 0.0f);
      std::vector<bool> counts(first.size(), false);
      ForEachPart(table_, slice, [&](const ParamSlice& part, int64_t at) {
        std::fill_n(first.begin() + at, part.size, kInitial);
        std::fill_n(counts.begin() + at, part.size, true);
      });
      models_.emplace_back(bsp_, mode_ == 2, std::move(first), std::move(counts));
    }
    ServerOptions options;
    options.num_replicas = kReplicas;
    if (mode_ == 2) options.clip_norm = 1e30f;  // two phases, and nothing to clip
    server_ = Server::Make(
        table_, partition_, *policy_, *optimizer_, [](int64_t) { return 1.0f; }, options, {},
        *log_);
    CHECK(server_->Initialize().ok());
    rpc::Hello self;
    self.role = "ps";
    listener_ = *transport_->Listen("inproc:0", self, server_->acceptor());
    Connect();
  }
  ~Case() {
    stream_.reset();
    listener_.reset();
  }

  void Run() {
    for (int i = 0; i < kMostMessages && !input_.empty(); ++i) Act();
    Barrier();
    for (size_t id = 0; id < models_.size(); ++id) {
      if (partition_.server[id] == 0) CheckSlice(id);
    }
    CheckCounters();
  }

 private:
  void Connect() {
    rpc::Hello hello;
    hello.service = "params";
    stream_ = *transport_->Connect(listener_->address(), hello, std::make_unique<Handler>(answers_),
                                   10'000);
  }
  int OwnSlice() const {
    int id = 0;
    while (partition_.server[static_cast<size_t>(id)] != 0) ++id;
    return id;
  }
  // Returns when the server has dealt with all that was sent: one thread owns its slices.
  void Barrier() {
    CHECK(stream_->Send(AskClockMessage(OwnSlice(), 0)).ok());
    CHECK((answers_->Next().header.flags & kAskClock) != 0);
  }

  void Act() {
    const auto slice = static_cast<uint32_t>(input_.Below(static_cast<int>(models_.size())));
    const auto replica = static_cast<uint32_t>(input_.Below(kReplicas));
    rpc::Message message;
    message.header.slice = slice;
    message.header.replica = replica;
    switch (input_.Below(mode_ == 2 ? 10 : 8)) {
      case 0:
      case 1:
      case 2:
      case 3: {
        message.header.type = rpc::MessageType::kPush;
        message.header.flags = static_cast<uint8_t>(input_.Below(2));
        constexpr int64_t kOff[] = {0, 0, 0, 0, 0, 1, -1, -2};
        message.header.step =
            models_[slice].clock(static_cast<int>(replica)) + kOff[input_.Below(8)];
        const size_t size = static_cast<size_t>(partition_.slices[slice].size) * sizeof(float);
        message.payload = Values(size / sizeof(float), size);
        break;
      }
      case 4: {  // any header, any size
        message.header.magic =
            input_.Below(8) == 7 ? input_.Number<uint32_t>() : rpc::Header::kMagic;
        message.header.type = static_cast<rpc::MessageType>(2 + input_.Below(10));
        message.header.flags = input_.Byte() & ~kAskClock & 127;
        message.header.code = input_.Number<uint16_t>();
        if (input_.Below(2) == 0) message.header.slice = input_.Number<uint32_t>();
        if (input_.Below(2) == 0) message.header.replica = input_.Number<uint32_t>();
        message.header.step = input_.Number<int64_t>();
        message.header.version = input_.Number<int64_t>();
        message.payload = Values(64, input_.Byte());
        break;
      }
      case 5:
        message.header.type = rpc::MessageType::kPull;
        message.header.flags = static_cast<uint8_t>(input_.Below(2));
        message.header.step = input_.Below(8);
        message.header.version = input_.Below(8) - 1;
        break;
      case 6:
        Barrier();
        stream_.reset();
        for (SliceModel& model : models_) model.Detach();
        Connect();
        return;
      case 8:
      case 9: {
        constexpr int64_t kOff[] = {0, 0, 0, 0, 0, 0, 1, -1};
        const double own = models_[slice].own();
        const double totals[] = {
            own,       own,       own,  own + 7,
            own + 1e9, own - 0.5, -own, std::numeric_limits<double>::quiet_NaN()};
        const double total = totals[input_.Below(8)];
        const NormRound round = input_.Below(8) == 7 ? NormRound::kTrust : NormRound::kGradient;
        message = TotalsMessage(
            static_cast<int32_t>(slice), models_[slice].version() + kOff[input_.Below(8)], round,
            std::vector<double>(TotalValues(table_, partition_.slices[slice], round), total));
        message.header.replica = replica;
        break;
      }
      default:
        if (sent_.empty()) return;
        message = sent_[input_.Byte() % sent_.size()];
    }
    sent_.push_back(message);
    Expect(message);
    CHECK(stream_->Send(message).ok());
  }

  // `n` floats' bytes, of which `size` are the payload, in two ranges.
  rpc::Payload Values(size_t n, size_t size) {
    std::vector<float> values(n);
    const float first = static_cast<float>(input_.Byte() % 8),
                slope = static_cast<float>(input_.Byte() % 4);
    for (size_t i = 0; i < n; ++i) values[i] = first + slope * static_cast<float>(i % 3);
    if (input_.Below(8) == 7) {
      const float strange[] = {std::numeric_limits<float>::infinity(),
                               std::numeric_limits<float>::quiet_NaN()};
      const size_t at = input_.Byte() % n;
      values[at] = strange[input_.Below(2)];
    }
    std::string text(reinterpret_cast<const char*>(values.data()), n * sizeof(float));
    text.resize(size);
    const size_t cut = std::min<size_t>(input_.Byte(), size);
    rpc::Payload payload = rpc::Payload::Own(text.substr(0, cut));
    const rpc::Payload rest = rpc::Payload::Own(text.substr(cut));
    payload.Append(rest.slices()[0]);
    return payload;
  }

  void Expect(const rpc::Message& message) {
    const rpc::Header& h = message.header;
    const bool known = h.magic == rpc::Header::kMagic && h.slice < models_.size() &&
                       partition_.server[h.slice] == 0 && h.replica < kReplicas && h.step >= 0 &&
                       h.step <= int64_t{1} << 53;
    const size_t floats = known ? models_[h.slice].weights(0).size() : 0;
    if (known && h.type == rpc::MessageType::kPush &&
        message.payload.size() == floats * sizeof(float)) {
      Gradient gradient{std::vector<float>(floats)};
      CopyFloats(message.payload, gradient.values);
      models_[h.slice].Push(static_cast<int>(h.replica), h.step, std::move(gradient));
    } else if (known && h.type == rpc::MessageType::kTotals && h.code < kNormRounds &&
               message.payload.size() ==
                   sizeof(double) * TotalValues(table_, partition_.slices[h.slice],
                                                static_cast<NormRound>(h.code))) {
      models_[h.slice].Totals(h.step, static_cast<NormRound>(h.code),
                              DoublesOf(message.payload).front());
    } else if (!(known && h.type == rpc::MessageType::kPull && message.payload.size() == 0 &&
                 h.version >= -1 && h.version <= int64_t{1} << 53)) {
      ++malformed_;
    }
  }

  void CheckSlice(size_t id) {
    const SliceModel& model = models_[id];
    for (const int64_t version : {model.version(), model.version() - 1}) {
      if (version < 0) continue;
      answers_->Listen(true);
      CHECK(stream_->Send(PullMessage(static_cast<int32_t>(id), 0, 0, version, false)).ok());
      const rpc::Message answer = answers_->Next();
      answers_->Listen(false);
      // The version before the newest may be lost with a step that was refused half way.
      if (answer.header.type == rpc::MessageType::kError && version < model.version()) {
        CHECK(model.poisoned());
        continue;
      }
      CHECK_EQ(int{uint8_t(answer.header.type)}, int{uint8_t(rpc::MessageType::kParams)});
      CHECK_EQ(answer.header.version, version);
      std::vector<float> weights(model.weights(version).size());
      CopyFloats(answer.payload, weights);
      CHECK(weights == model.weights(version));
    }
  }

  void CheckCounters() {
    int64_t pushes = 0, repeated = 0, refused = malformed_, applies = 0;
    for (const SliceModel& model : models_) {
      pushes += model.pushes;
      repeated += model.repeated;
      refused += model.refused;
      applies += model.version();
    }
    const ServerStats stats = server_->stats();
    CHECK_EQ(stats.pushes, pushes);
    CHECK_EQ(stats.repeated, repeated);
    CHECK_EQ(stats.applies, applies);
    CHECK_GE(stats.refused, refused);  // readers and held gradients of a lost step are refused, too
  }

  Input& input_;
  const int mode_;  // 0 BSP, 1 ASYNC, 2 BSP in two phases
  const bool bsp_;
  const std::unique_ptr<Log> log_ = Log::Discard();
  const ParamTable table_ =
      *ParamTable::Make({{.name = "a", .shape = {1100}, .init = {Init::Kind::kConstant, kInitial}},
                         {.name = "b", .shape = {7}, .init = {Init::Kind::kConstant, kInitial}},
                         {.name = "c", .shape = {3}, .init = {Init::Kind::kConstant, kInitial}}});
  const Partition partition_ = MakePartition(table_, 2);  // "a" alone; "b" and "c" as a bundle
  const std::unique_ptr<const ConsistencyPolicy> policy_;
  const std::unique_ptr<const Optimizer> optimizer_ = *MakeOptimizer("sgd", {});
  std::vector<SliceModel> models_;  // by slice
  int64_t malformed_ = 0;
  std::vector<rpc::Message> sent_;
  const std::shared_ptr<Answers> answers_ = std::make_shared<Answers>();
  std::unique_ptr<Server> server_;
  const std::unique_ptr<rpc::Transport> transport_ = rpc::MakeInprocTransport();
  std::unique_ptr<rpc::Listener> listener_;
  std::shared_ptr<rpc::Stream> stream_;
};

}  // namespace
}  // namespace muster::ps

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  muster::fuzz::Input input(data, size);
  muster::ps::Case(input).Run();
  return 0;
}
