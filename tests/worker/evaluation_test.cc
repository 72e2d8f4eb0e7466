// Evaluations count the same answers however many devices share them, and all devices work at the
// same time.
#include "worker/evaluation.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <string>

#include "kernels/device.h"
#include "kernels/op.h"
#include "kernels/philox.h"
#include "tests/harness/host_gpu.h"
#include "worker/models/models.h"

namespace muster::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr ImageModelSettings kImage{.frames = 14, .bins = 10, .classes = 5};

// Images in noise; sample i is of class i modulo the classes.
class Images final : public Dataset {
 public:
  explicit Images(int64_t size) : size_(size) {}
  int64_t size() const override { return size_; }
  int64_t input_size() const override { return kImage.frames * kImage.bins; }
  absl::Status Get(int64_t index, int64_t, std::span<float> input, int32_t* label) const override {
    *label = static_cast<int32_t>(index % kImage.classes);
    for (size_t i = 0; i < input.size(); ++i) {
      const auto at = static_cast<uint64_t>(index) * input.size() + i;
      input[i] = 2 * UniformFloat(Philox(DeriveKey(3, 1), at)[0]) - 1;
    }
    return absl::OkStatus();
  }

 private:
  const int64_t size_;
};

constexpr int64_t kBatch = 8;

// A loader for each model.
LoaderGroup LoadersOf(ModelGroup& models, int64_t samples, int32_t shares) {
  std::vector<std::unique_ptr<Loader>> loaders;
  for (size_t i = 0; i < models.size(); ++i) {
    auto feed = MakeFeed(std::make_shared<Images>(samples), LargestShare(kBatch, models.size()),
                         models.model(i).stream());
    EXPECT_TRUE(feed.ok()) << feed.status();
    loaders.push_back(std::make_unique<Loader>(
        *std::move(feed), ShareOf(EvaluationOrder(samples, shares, kBatch), i, models.size()),
        Loader::Options()));
  }
  return LoaderGroup(std::move(loaders));
}

absl::Status GoOn(int64_t) { return absl::OkStatus(); }

// What a share of `samples` is counted as by a model on `count` GPUs that the host plays.
Confusion OnGpus(const std::string& name, int count, testing::HostGpuPace pace, int64_t samples,
                 int32_t share, int32_t shares) {
  testing::HostGpus gpus = testing::MakeHostGpus(count, pace);
  std::vector<std::unique_ptr<Model>> made;
  for (const auto& gpu : gpus.devices) made.push_back(*MakeImageModel(name, kImage, *gpu));
  ModelGroup models(std::move(made), gpus.communicator.get());
  const auto table = ps::ParamTable::Make(models.params());
  EXPECT_TRUE(models.Prepare(*table, kBatch).ok());
  std::vector<float> values(static_cast<size_t>(table->arena_size()));
  for (ps::ParamId p = 0; p < static_cast<ps::ParamId>(models.params().size()); ++p) {
    const ps::ParamSpec& spec = models.params()[static_cast<size_t>(p)];
    // Variances are positive.
    const float low = spec.kind == ps::ParamSpec::Kind::kStatistic ? 0.0f : -0.5f;
    const auto begin = static_cast<uint64_t>(table->offset(p));
    for (uint64_t i = begin; i < begin + static_cast<uint64_t>(spec.size()); ++i) {
      values[i] = 0.2f * (low + UniformFloat(Philox(DeriveKey(3, 2), i)[0]));
    }
  }
  std::vector<Buffer> arenas;
  std::vector<std::span<const float>> weights;
  for (size_t i = 0; i < models.size(); ++i) {
    arenas.emplace_back(*gpus.devices[i], values.size() * sizeof(float));
    CopyToDevice(*models.model(i).stream(), values,
                 {arenas[i].data<float>(), {table->arena_size()}});
    weights.emplace_back(arenas[i].data<float>(), values.size());
  }
  LoaderGroup loaders = LoadersOf(models, samples, shares);
  const auto counted = Evaluate(models, weights, loaders, share, GoOn);
  EXPECT_TRUE(counted.ok()) << counted.status();
  return counted.value_or(Confusion());
}

class EvaluationModelTest : public ::testing::TestWithParam<std::string> {};

INSTANTIATE_TEST_SUITE_P(Models, EvaluationModelTest, ::testing::ValuesIn(ImageModelNames()),
                         [](const auto& info) { return info.param; });

// The last batch has fewer samples than there are GPUs.
TEST_P(EvaluationModelTest, CountsTheSameOnAnyNumberOfGpus) {
  const int64_t samples = 53;
  for (const auto& [share, shares] : {std::pair{0, 1}, {1, 2}}) {
    const Confusion one =
        OnGpus(GetParam(), 1, testing::HostGpuPace::kAtOnce, samples, share, shares);
    EXPECT_EQ(std::accumulate(one.begin(), one.end(), int64_t{0}), share == 0 ? 53 : 26);
    EXPECT_GT(std::ranges::count_if(one, [](int64_t n) { return n > 0; }), kImage.classes)
        << "answers differ";
    for (const int count : {2, 3, 7}) {
      for (const auto pace : {testing::HostGpuPace::kAtOnce, testing::HostGpuPace::kLate}) {
        EXPECT_EQ(OnGpus(GetParam(), count, pace, samples, share, shares), one) << count;
      }
    }
  }
}

// A model whose answers are right, and that writes down what it is asked.
class WatchedModel final : public Model {
 public:
  WatchedModel(size_t number, std::vector<std::string>* asked, absl::Status end)
      : number_(number), asked_(asked), stream_(*this, std::move(end)) {}
  const std::vector<ps::ParamSpec>& params() const override { return params_; }
  absl::Status Prepare(const ps::ParamTable&, int64_t) override { return absl::OkStatus(); }
  void Forward(std::span<const float>, const Batch&, const ItemKey&) override {}
  float Loss() override { return 0; }
  void Backward(std::span<const float>, std::span<float>, const OnGrad&) override {}
  void Predict(std::span<const float>, const Batch& batch, std::span<float> logits) override {
    asked_->push_back(fmt::format("{} answers {}", number_, batch.size));
    logits_ = logits;
    labels_ = batch.labels;
  }
  Stream* stream() override { return &stream_; }
  int64_t num_classes() const override { return kImage.classes; }
  int64_t input_size() const override { return kImage.frames * kImage.bins; }
  double flops_per_sample() const override { return 0; }

 private:
  // Answers when it is waited for.
  class WatchedStream final : public Stream {
   public:
    WatchedStream(WatchedModel& model, absl::Status end)
        : Stream(*model.device_), model_(model), end_(std::move(end)) {}
    void Record(Event&) override {}
    void Wait(const Event&) override {}
    absl::Status Synchronize() override {
      if (model_.logits_.empty()) return absl::OkStatus();
      model_.asked_->push_back(fmt::format("{} is waited for", model_.number_));
      std::ranges::fill(model_.logits_, 0.0f);
      for (size_t row = 0; row < model_.labels_.size(); ++row) {
        model_.logits_[row * kImage.classes + static_cast<size_t>(model_.labels_[row])] = 1;
      }
      model_.logits_ = {};
      return end_;
    }

   private:
    WatchedModel& model_;
    const absl::Status end_;
  };

  const size_t number_;
  std::vector<std::string>* const asked_;
  const std::unique_ptr<Device> device_ = MakeCpuDevice(1);
  WatchedStream stream_;
  const std::vector<ps::ParamSpec> params_;
  std::span<float> logits_;
  std::span<const int32_t> labels_;
};

class WatchedEvaluationTest : public ::testing::Test {
 protected:
  // By three models, of which the second one's device ends with `end`.
  absl::StatusOr<Confusion> Run(int64_t samples, const absl::Status& end,
                                const std::function<absl::Status(int64_t)>& on_batch = GoOn) {
    std::vector<std::unique_ptr<Model>> made;
    for (size_t i = 0; i < 3; ++i) {
      made.push_back(std::make_unique<WatchedModel>(i, &asked_, i == 1 ? end : absl::OkStatus()));
    }
    const testing::HostGpus gpus = testing::MakeHostGpus(3);
    ModelGroup models(std::move(made), gpus.communicator.get());
    LoaderGroup loaders = LoadersOf(models, samples, /*shares=*/1);
    const std::vector<std::span<const float>> weights(3);
    return Evaluate(models, weights, loaders, /*share=*/0, on_batch);
  }

  std::vector<std::string> asked_;
};

TEST_F(WatchedEvaluationTest, AllAnswerBeforeOneIsWaitedFor) {
  std::vector<int64_t> done;
  const auto counted = Run(10, absl::OkStatus(), [&](int64_t n) {
    done.push_back(n);
    return absl::OkStatus();
  });
  ASSERT_TRUE(counted.ok()) << counted.status();
  EXPECT_THAT(asked_, ElementsAre("0 answers 2", "1 answers 3", "2 answers 3",  //
                                  "0 is waited for", "1 is waited for", "2 is waited for",
                                  "1 answers 1", "2 answers 1",  //
                                  "1 is waited for", "2 is waited for"));
  EXPECT_THAT(done, ElementsAre(0, 8));
  for (int64_t c = 0; c < kImage.classes; ++c) {
    EXPECT_EQ((*counted)[static_cast<size_t>(c * (kImage.classes + 1))], 2) << "class " << c;
  }
}

// Nothing is written any more when the others' logits are gone.
TEST_F(WatchedEvaluationTest, ADeviceThatFailsEndsItAndTheOthersAreWaitedFor) {
  const auto counted = Run(8, absl::InternalError("a GPU is gone"));
  EXPECT_THAT(std::string(counted.status().message()), HasSubstr("a GPU is gone"));
  EXPECT_THAT(asked_, ElementsAre("0 answers 2", "1 answers 3", "2 answers 3",  //
                                  "0 is waited for", "1 is waited for", "2 is waited for"));
}

TEST_F(WatchedEvaluationTest, WhoListensCanEndIt) {
  const auto counted =
      Run(8, absl::OkStatus(), [](int64_t) { return absl::CancelledError("enough"); });
  EXPECT_TRUE(absl::IsCancelled(counted.status()));
  EXPECT_THAT(asked_, ElementsAre());
}

}  // namespace
}  // namespace muster::worker
