// Steps that are launched as graphs give the bits of steps that are told op by op, whatever changes
// between them and whenever the GPU works; what cannot be captured goes on without. The GPU is
// played by the host, which refuses in a capture what CUDA refuses.
#include "worker/replays.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "kernels/op.h"
#include "kernels/pinned.h"
#include "tests/harness/host_gpu.h"
#include "tests/kernels/reference.h"
#include "worker/models/models.h"

namespace muster::worker {
namespace {

using ::muster::testing::HostGpuOptions;
using ::muster::testing::HostGpuPace;
using ::muster::testing::MakeHostGpu;
using ::muster::testing::Uniform;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

constexpr ImageModelSettings kImage{.frames = 14, .bins = 10, .classes = 5};
constexpr int64_t kMaxBatch = 7;

struct Step {
  int64_t batch = 6;
  size_t slot = 0;  // where the batch lies
  int32_t replica = 0;
  int64_t first = 0, whole = 0;   // as in Batch
  bool evaluates_before = false;  // a larger batch, so that scratch memory grows
  bool frees_before = false;      // other memory of the device
};

// A model on a GPU whose weights move with each step's gradient.
class Player {
 public:
  Player(const std::string& name, const HostGpuOptions& options) : gpu_(MakeHostGpu(options)) {
    auto model = MakeImageModel(name, kImage, *gpu_);
    EXPECT_TRUE(model.ok()) << model.status();
    model_ = *std::move(model);
    auto table = ps::ParamTable::Make(model_->params());
    EXPECT_TRUE(table.ok());
    table_ = std::make_unique<ps::ParamTable>(*std::move(table));
    EXPECT_TRUE(model_->Prepare(*table_, kMaxBatch).ok());
    size_ = table_->arena_size();
    weights_ = Put(Uniform(size_, 1));
    Axpy(stream(), -0.9f, {weights_.data<float>(), {size_}}, {weights_.data<float>(), {size_}});
    grads_ = Buffer(*gpu_, static_cast<size_t>(size_) * sizeof(float));
    for (uint64_t slot = 0; slot < 3; ++slot) {
      inputs_.push_back(Put(Uniform(kMaxBatch * model_->input_size(), 10 + slot)));
      std::vector<int32_t> labels(kMaxBatch);
      std::iota(labels.begin(), labels.end(), static_cast<int32_t>(slot));
      for (int32_t& label : labels) label %= kImage.classes;
      labels_.emplace_back(*gpu_, labels.size() * sizeof(int32_t));
      gpu_->ops().Copy(stream(), labels_.back().data<void>(), labels.data(),
                       labels.size() * sizeof(int32_t), CopyDirection::kHostToDevice);
      EXPECT_TRUE(stream().Synchronize().ok());
    }
  }

  // The loss, then the gradient; what was reported, in its order.
  std::vector<float> Run(const Step& step, int64_t number) {
    if (step.frees_before) Buffer(*gpu_, 100);
    if (step.evaluates_before) Predict({.batch = kMaxBatch, .slot = step.slot});
    model_->Forward(Weights(), BatchOf(step), {7, number, step.replica});
    reported_.clear();
    model_->Backward(Weights(), {grads_.data<float>(), static_cast<size_t>(size_)},
                     [&](ps::ParamId param) { reported_.push_back(param); });
    std::vector<float> result(static_cast<size_t>(size_) + 1);
    result[0] = model_->Loss();
    const Tensor grads(grads_.data<float>(), {size_});
    EXPECT_TRUE(CopyToHost(stream(), grads, std::span(result).subspan(1)).ok());
    Axpy(stream(), -0.01f, grads, {weights_.data<float>(), {size_}});
    return result;
  }
  // The logits of the batch.
  std::vector<float> Predict(const Step& step) {
    std::vector<float> logits(static_cast<size_t>(step.batch * kImage.classes));
    model_->Predict(Weights(), BatchOf(step), logits);
    EXPECT_TRUE(stream().Synchronize().ok());
    return logits;
  }
  std::vector<std::vector<float>> RunAll(const std::vector<Step>& steps) {
    std::vector<std::vector<float>> results;
    for (const Step& step : steps) {
      results.push_back(Run(step, static_cast<int64_t>(results.size())));
    }
    return results;
  }

  Stream& stream() { return *model_->stream(); }
  Model& model() { return *model_; }
  const std::vector<ps::ParamId>& reported() const { return reported_; }

 private:
  Buffer Put(const std::vector<float>& values) {
    const auto n = static_cast<int64_t>(values.size());
    Buffer buffer(*gpu_, values.size() * sizeof(float));
    CopyToDevice(stream(), values, {buffer.data<float>(), {n}});
    EXPECT_TRUE(stream().Synchronize().ok());
    return buffer;
  }
  std::span<const float> Weights() const {
    return {weights_.data<float>(), static_cast<size_t>(size_)};
  }
  Batch BatchOf(const Step& step) const {
    const auto n = static_cast<size_t>(step.batch);
    return {{inputs_[step.slot].data<float>(), n * static_cast<size_t>(model_->input_size())},
            {labels_[step.slot].data<int32_t>(), n},
            step.batch,
            step.first,
            step.whole};
  }

  const std::unique_ptr<Device> gpu_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<ps::ParamTable> table_;
  int64_t size_ = 0;
  Buffer weights_, grads_;
  std::vector<Buffer> inputs_, labels_;
  std::vector<ps::ParamId> reported_;
};

// Two leases in turn, three slots of a feed, every fifth batch a smaller one, an evaluation, memory
// that goes; then the shares of a GPU among several.
std::vector<Step> AllThatChanges() {
  std::vector<Step> steps;
  for (int i = 0; i < 40; ++i) {
    Step step{.slot = static_cast<size_t>(i % 3), .replica = i % 2};
    if (i % 5 == 4) step.batch = 4;
    step.evaluates_before = i == 13;
    step.frees_before = i == 25;
    if (i >= 33) step.first = 2, step.whole = 9;
    steps.push_back(step);
  }
  return steps;
}

class ReplaysModelTest : public ::testing::TestWithParam<std::tuple<std::string, HostGpuPace>> {};

INSTANTIATE_TEST_SUITE_P(Models, ReplaysModelTest,
                         ::testing::Combine(::testing::ValuesIn(ImageModelNames()),
                                            ::testing::Values(HostGpuPace::kAtOnce,
                                                              HostGpuPace::kLate)),
                         [](const auto& info) {
                           return std::get<0>(info.param) +
                                  (std::get<1>(info.param) == HostGpuPace::kLate ? "_late" : "");
                         });

TEST_P(ReplaysModelTest, GraphsChangeNoBit) {
  const auto& [name, pace] = GetParam();
  const auto launches = std::make_shared<std::atomic<int64_t>>(0);
  Player plain(name, {.pace = pace, .graphs = false});
  Player graphs(name, {.pace = pace, .launches = launches});
  const auto want = plain.RunAll(AllThatChanges());
  ASSERT_NE(want[0], want[2]);
  EXPECT_EQ(graphs.RunAll(AllThatChanges()), want);
  EXPECT_TRUE(graphs.model().graph_status().ok()) << graphs.model().graph_status();
  EXPECT_GE(*launches, 30) << "two a step at least, but for those that are first of a key";
  auto all = graphs.reported();
  std::sort(all.begin(), all.end());
  std::vector<ps::ParamId> params(graphs.model().params().size());
  std::iota(params.begin(), params.end(), 0);
  EXPECT_THAT(all, ElementsAreArray(params)) << "each once";
}

// The first capture that fails is the last one: whether it is that of a forward pass, or of a
// backward pass's first or last part.
TEST_P(ReplaysModelTest, ACaptureThatFailsChangesNoBit) {
  const auto& [name, pace] = GetParam();
  const std::vector<Step> steps(6);
  const auto want = Player(name, {.pace = pace, .graphs = false}).RunAll(steps);
  int failed = 0;
  for (int64_t failing = 0; failing < 4; ++failing) {
    Player graphs(name, {.pace = pace, .failing_capture = failing});
    EXPECT_EQ(graphs.RunAll(steps), want) << failing;
    if (!graphs.model().graph_status().ok()) ++failed;
  }
  EXPECT_GE(failed, 2) << "each model has a graph of each pass";
}

// Batches of an evaluation are graphs as steps are, and neither makes the other's be forgotten.
TEST_P(ReplaysModelTest, EvaluationsBetweenStepsAreCapturedOnce) {
  const auto& [name, pace] = GetParam();
  const auto captures = std::make_shared<std::atomic<int64_t>>(0);
  const auto launches = std::make_shared<std::atomic<int64_t>>(0);
  Player plain(name, {.pace = pace, .graphs = false});
  Player graphs(name, {.pace = pace, .captures = captures, .launches = launches});
  const auto round = [&](int64_t number) {
    // Two of a size, and the last, smaller one.
    for (const Step& batch : {Step{.slot = 0}, Step{.slot = 1}, Step{.batch = 3, .slot = 2}}) {
      EXPECT_EQ(graphs.Predict(batch), plain.Predict(batch)) << "round " << number;
    }
    const Step step{.slot = static_cast<size_t>(number % 3)};
    EXPECT_EQ(graphs.Run(step, number), plain.Run(step, number)) << "round " << number;
  };
  // Scratch memory grows in the first round; then twice plainly.
  for (int64_t number = 0; number < 4; ++number) round(number);
  const int64_t captured = *captures, launched = *launches;
  for (int64_t number = 4; number < 10; ++number) round(number);
  EXPECT_EQ(*captures, captured) << "once each";
  const int64_t of_a_step = captured - 2;
  EXPECT_GE(of_a_step, 2) << "a pass forward, and one back";
  EXPECT_EQ(*launches - launched, 6 * (of_a_step + 3));
  EXPECT_TRUE(graphs.model().graph_status().ok()) << graphs.model().graph_status();
}

class ReplaysTest : public ::testing::Test {
 protected:
  void SetUp() override { x_ = Buffer(*gpu_, sizeof(float)); }
  float Read() {
    float value = 0;
    EXPECT_TRUE(CopyToHost(*stream_, {x_.data<float>(), {1}}, {&value, 1}).ok());
    return value;
  }
  // x += 1, and whatever a test adds to that.
  void Run(
      Replays& replays, const std::function<void()>& also = [] {}, const Replays::Key& key = {}) {
    replays.Run(key, [&] {
      ++calls_;
      Axpy(*stream_, 1, {one_.data<float>(), {1}}, {x_.data<float>(), {1}});
      also();
    });
  }

  const std::shared_ptr<std::atomic<int64_t>> launches_ = std::make_shared<std::atomic<int64_t>>(0);
  const std::unique_ptr<Device> gpu_ =
      MakeHostGpu({.pace = HostGpuPace::kLate, .launches = launches_});
  const std::unique_ptr<Stream> stream_ = gpu_->MakeStream();
  const Buffer one_ = [this] {
    Buffer one(*gpu_, sizeof(float));
    Fill(*stream_, 1, {one.data<float>(), {1}});
    return one;
  }();
  Buffer x_;
  int calls_ = 0;
};

TEST_F(ReplaysTest, TwicePlainThenCapturedThenLaunched) {
  Replays replays(*stream_);
  for (int run = 1; run <= 5; ++run) {
    Run(replays);
    EXPECT_EQ(Read(), run);
    EXPECT_EQ(calls_, std::min(run, 3));
    EXPECT_EQ(*launches_, std::max(0, run - 2)) << "what is captured is launched, too";
  }
}

TEST_F(ReplaysTest, EachKeyHasItsOwnGraph) {
  Replays replays(*stream_);
  const std::vector<Replays::Key> keys = {
      {},          {.part = 1},   {.samples = 1}, {.weights = one_.data<float>()},
      {.seed = 1}, {.replica = 1}};
  for (int run = 0; run < 4; ++run) {
    for (const Replays::Key& key : keys)
      Run(
          replays, [] {}, key);
  }
  EXPECT_EQ(calls_, 3 * 6);
  EXPECT_EQ(*launches_, 2 * 6);
  EXPECT_EQ(Read(), 4 * 6);
}

TEST_F(ReplaysTest, MemoryThatGoesTakesAllGraphsAlong) {
  Replays replays(*stream_);
  for (int run = 0; run < 4; ++run) Run(replays);
  EXPECT_EQ(calls_, 3);
  Buffer(*gpu_, 1);
  for (int run = 0; run < 4; ++run) Run(replays);
  EXPECT_EQ(calls_, 6);
  EXPECT_EQ(Read(), 8);
}

// More keys than anybody needs do not take more and more memory.
TEST_F(ReplaysTest, KeysAreForgottenWhenThereAreTooMany) {
  Replays replays(*stream_);
  const auto run_all = [&] {
    for (uint64_t seed = 0; seed <= Replays::kMostKeys; ++seed) Run(replays, [] {}, {.seed = seed});
  };
  for (int run = 0; run < 4; ++run) run_all();
  EXPECT_EQ(*launches_, 0);
  EXPECT_TRUE(replays.status().ok());
  EXPECT_EQ(Read(), 4 * (static_cast<float>(Replays::kMostKeys) + 1));
}

// What CUDA refuses is refused here, leaves the stream as it was, and says why.
TEST_F(ReplaysTest, WhatCannotBeCapturedIsDonePlainly) {
  const std::unique_ptr<Event> event = gpu_->MakeEvent();
  std::vector<float> array(1), pinned_array(1);
  const Pinned pinned(*gpu_, pinned_array.data(), sizeof(float));
  const auto copy = [&](std::vector<float>& from) {
    CopyToDevice(*stream_, from, {x_.data<float>(), {1}});
  };
  const std::pair<std::function<void()>, const char*> cases[] = {
      {[&] { (void)stream_->Synchronize(); }, "the host waits"},
      {[&] { stream_->Record(*event); }, "an event is recorded"},
      {[&] { stream_->Wait(*event); }, "the stream waits for an event"},
      {[&] { (void)event->Done(); }, "the host asks an event"},
      {[&] { *gpu_->Allocate(1); }, "memory is allocated"},
      {[&] { copy(array); }, "memory that is not pinned is copied"},
      {[&] { copy(pinned_array); }, ""},
  };
  for (const auto& [also, why] : cases) {
    SCOPED_TRACE(why);
    Replays replays(*stream_);
    calls_ = 0;
    for (int run = 0; run < 5; ++run) Run(replays, also);
    const bool refused = *why != '\0';
    EXPECT_EQ(calls_, refused ? 6 : 3) << "the third time twice, but with one effect";
    EXPECT_EQ(replays.status().ok(), !refused);
    EXPECT_THAT(std::string(replays.status().message()), HasSubstr(why));
    ASSERT_TRUE(stream_->Synchronize().ok());
  }
  EXPECT_EQ(Read(), 0) << "what the last copies left";
}

}  // namespace
}  // namespace muster::worker
