// Three steps of each optimizer against the formula in float64, and what the factories refuse.
#include "ps/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

namespace muster::ps {
namespace {

constexpr float kEpsilon = std::numeric_limits<float>::epsilon();

std::unique_ptr<const Optimizer> Make(const std::string& name,
                                      const std::map<std::string, double>& params = {}) {
  auto optimizer = MakeOptimizer(name, params);
  EXPECT_TRUE(optimizer.ok()) << optimizer.status();
  return *std::move(optimizer);
}

// Element-wise state in float64: weight and slots.
struct Reference {
  double w;
  std::vector<double> slots;
};
using Step = std::function<void(int t, double g, double lr, Reference& r)>;

// Runs three steps of a 19-element slice with changing learning rate, scale 1/2 and weight decay.
void ExpectThreeSteps(const Optimizer& optimizer, const Step& step) {
  constexpr size_t kN = 19;
  std::vector<float> w(kN), next(kN), grad(kN);
  std::vector<std::vector<float>> slots;
  for (size_t i = 0; i < optimizer.slot_names().size(); ++i) {
    slots.emplace_back(kN, optimizer.slot_init(static_cast<int>(i)));
  }
  std::vector<Reference> reference(kN);
  for (size_t i = 0; i < kN; ++i) {
    w[i] = std::sin(static_cast<float>(i));
    reference[i].w = w[i];
    for (const auto& slot : slots) reference[i].slots.push_back(slot[i]);
  }
  const float rates[] = {0.5f, 0.5f, 0.125f};
  for (int t = 1; t <= 3; ++t) {
    for (size_t i = 0; i < kN; ++i) {
      grad[i] = std::cos(static_cast<float>(i) * 0.7f + static_cast<float>(t));
    }
    StepInfo info;
    info.step = t - 1;
    info.applies = t;
    info.learning_rate = rates[t - 1];
    info.scale = 0.5f;
    info.weight_decay = 0.25f;
    std::vector<std::span<float>> views(slots.begin(), slots.end());
    optimizer.Apply(info, grad, w, next, views);
    w.swap(next);
    for (size_t i = 0; i < kN; ++i) {
      Reference& r = reference[i];
      step(t, 0.5 * double{grad[i]} + 0.25 * r.w, rates[t - 1], r);
      // Values stay below 4; up to ten roundings a step, whose errors the quotients of Adagrad and
      // Adam amplify by the learning rate over a denominator of at least 1/8.
      const double tolerance = 4 * 10 * t * kEpsilon * 4;
      ASSERT_NEAR(w[i], r.w, tolerance) << optimizer.name() << " step " << t << " element " << i;
      for (size_t s = 0; s < slots.size(); ++s) {
        ASSERT_NEAR(slots[s][i], r.slots[s], tolerance) << optimizer.name() << " slot " << s;
      }
    }
  }
}

TEST(OptimizerTest, Sgd) {
  ExpectThreeSteps(*Make("sgd"), [](int, double g, double lr, Reference& r) { r.w -= lr * g; });
}

TEST(OptimizerTest, Momentum) {
  ExpectThreeSteps(*Make("momentum", {{"momentum", 0.75}}),
                   [](int, double g, double lr, Reference& r) {
                     r.slots[0] = 0.75 * r.slots[0] + g;
                     r.w -= lr * r.slots[0];
                   });
}

TEST(OptimizerTest, Adagrad) {
  ExpectThreeSteps(*Make("adagrad", {{"initial_accumulator", 0.25}, {"epsilon", 0.125}}),
                   [](int, double g, double lr, Reference& r) {
                     r.slots[0] += g * g;
                     r.w -= lr * g / (std::sqrt(r.slots[0]) + 0.125);
                   });
}

TEST(OptimizerTest, Adam) {
  ExpectThreeSteps(*Make("adam", {{"beta1", 0.75}, {"beta2", 0.875}, {"epsilon", 0.125}}),
                   [](int t, double g, double lr, Reference& r) {
                     r.slots[0] = 0.75 * r.slots[0] + 0.25 * g;
                     r.slots[1] = 0.875 * r.slots[1] + 0.125 * g * g;
                     const double m = r.slots[0] / (1 - std::pow(0.75, t));
                     const double v = r.slots[1] / (1 - std::pow(0.875, t));
                     r.w -= lr * m / (std::sqrt(v) + 0.125);
                   });
}

TEST(OptimizerTest, AdamsFirstStepIsTheLearningRateWhateverTheGradient) {
  const auto adam = Make("adam");
  for (const float g : {1e-4f, 1.0f, 1e4f}) {
    float w = 0, m = 0, v = 0;
    StepInfo info;
    info.learning_rate = 0.5f;
    const std::vector<std::span<float>> slots = {{&m, 1}, {&v, 1}};
    adam->Apply(info, {&g, 1}, {&w, 1}, {&w, 1}, slots);
    // epsilon (1e-8) against |g|, and a few roundings.
    EXPECT_NEAR(w, -0.5f, 0.5 * (1e-8 / g + 8 * kEpsilon));
  }
}

TEST(OptimizerTest, DefaultsAreTensorFlows) {
  EXPECT_EQ(Make("adagrad")->slot_init(0), 0.1f);
  float w = 1, m = 2;
  const float g = 3;
  StepInfo info;
  info.learning_rate = 1;
  const std::vector<std::span<float>> slots = {{&m, 1}};
  Make("momentum")->Apply(info, {&g, 1}, {&w, 1}, {&w, 1}, slots);
  EXPECT_FLOAT_EQ(m, 0.9f * 2 + 3);
  EXPECT_FLOAT_EQ(w, 1 - m);
}

TEST(OptimizerTest, UnknownNamesAnswerWithTheValidOnes) {
  EXPECT_EQ(MakeOptimizer("adm", {}).status().message(),
            "unknown optimizer 'adm'; write one of sgd, momentum, adagrad, adam");
  EXPECT_EQ(MakeOptimizer("adam", {{"beta", 0.9}}).status().message(),
            "optimizer 'adam' has no hyper-parameter 'beta'; write one of beta1, beta2, epsilon");
  EXPECT_EQ(MakeOptimizer("sgd", {{"momentum", 0.9}}).status().message(),
            "optimizer 'sgd' has no hyper-parameter 'momentum'; it has none");
  EXPECT_EQ(OptimizerNames(), (std::vector<std::string>{"sgd", "momentum", "adagrad", "adam"}));
}

TEST(OptimizerTest, HyperParametersOutOfRangeAreRefused) {
  EXPECT_EQ(MakeOptimizer("momentum", {{"momentum", 1.0}}).status().message(),
            "optimizer 'momentum': momentum is 1; it must be at least 0 and below 1");
  for (const double bad : {-0.1, 1.0, 1 - 1e-12, std::nan("")}) {
    EXPECT_FALSE(MakeOptimizer("adam", {{"beta2", bad}}).ok()) << bad;
  }
  EXPECT_FALSE(MakeOptimizer("adam", {{"epsilon", 0.0}}).ok());
  EXPECT_FALSE(MakeOptimizer("adagrad", {{"initial_accumulator", 0.0}}).ok());
  EXPECT_TRUE(MakeOptimizer("adagrad", {{"initial_accumulator", 0.0}, {"epsilon", 1e-7}}).ok());
}

}  // namespace
}  // namespace muster::ps
