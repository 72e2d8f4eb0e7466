// Trainers of one process: each has a device of one thread and a model of its own, and they work at
// the same time.
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "tests/kernels/reference.h"
#include "worker/models/models.h"

namespace muster::worker {
namespace {

// The weights after three steps of SGD; made by the calling thread alone.
std::vector<float> Train(const std::string& name, int32_t replica) {
  const auto device = MakeCpuDevice(1);
  auto model = MakeImageModel(name, {.frames = 14, .bins = 10, .classes = 5}, *device);
  EXPECT_TRUE(model.ok());
  auto table = ps::ParamTable::Make((*model)->params());
  EXPECT_TRUE(table.ok());
  EXPECT_TRUE((*model)->Prepare(*table, 4).ok());
  std::vector<float> weights = muster::testing::Uniform(table->arena_size(), 1);
  for (float& w : weights) w *= 0.1f;
  std::vector<float> grads(weights.size());
  const auto inputs = muster::testing::Uniform(4 * (*model)->input_size(), 2);
  const std::vector<int32_t> labels = {0, 1, 2, 3};
  for (int64_t step = 0; step < 3; ++step) {
    (*model)->Forward(weights, {inputs, labels, 4}, {1, step, replica});
    (*model)->Backward(weights, grads, [](ps::ParamId) {});
    for (size_t i = 0; i < weights.size(); ++i) weights[i] -= 0.1f * grads[i];
  }
  return weights;
}

TEST(ConcurrentModelsTest, GiveTheBitsThatTheyGiveAlone) {
  for (const std::string& name : ImageModelNames()) {
    constexpr int kTrainers = 4;
    std::vector<std::vector<float>> together(kTrainers);
    {
      std::vector<std::jthread> trainers;
      for (int v = 0; v < kTrainers; ++v) {
        trainers.emplace_back([&, v] { together[v] = Train(name, v); });
      }
    }
    for (int v = 0; v < kTrainers; ++v) EXPECT_EQ(together[v], Train(name, v)) << name;
  }
}

}  // namespace
}  // namespace muster::worker
