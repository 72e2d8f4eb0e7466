// Each optimizer against its formula in float64: three steps, and random sizes and values; the same
// bits however a slice is cut; and what the factories refuse.
#include "ps/optimizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <set>

#include "kernels/device.h"

namespace muster::ps {
namespace {

constexpr float kEpsilon = std::numeric_limits<float>::epsilon();

using Params = std::map<std::string, double>;

std::unique_ptr<const Optimizer> Make(const std::string& name, const Params& params = {}) {
  auto optimizer = MakeOptimizer(name, params);
  EXPECT_TRUE(optimizer.ok()) << optimizer.status();
  return *std::move(optimizer);
}

// A float64 value, and how far from it the same operations in float32 may end: each of them rounds
// by half a unit in the last place (or of the smallest number), and passes on its operands' errors.
struct Number {
  Number(double v) : value(v) {}  // NOLINT: a constant, exact
  Number(double v, double passed_on)
      : value(v),
        error(passed_on + std::abs(v) * kEpsilon / 2 + std::numeric_limits<float>::denorm_min()) {}
  double value;
  double error = 0;
};
Number operator+(Number a, Number b) { return {a.value + b.value, a.error + b.error}; }
Number operator-(Number a, Number b) { return {a.value - b.value, a.error + b.error}; }
Number operator*(Number a, Number b) {
  return {a.value * b.value,
          std::abs(a.value) * b.error + std::abs(b.value) * a.error + a.error * b.error};
}
Number operator/(Number a, Number b) {
  const double quotient = a.value / b.value, least = std::abs(b.value) - b.error;
  return {quotient, least > 0 ? (a.error + std::abs(quotient) * b.error) / least : INFINITY};
}
Number Pow(Number a, double p) {
  const double value = std::pow(a.value, p);
  const double low = std::pow(std::max(0.0, a.value - a.error), p);
  return {value, std::max(value - low, std::pow(a.value + a.error, p) - value)};
}
Number Sqrt(Number a) { return Pow(a, 0.5); }
Number Clamp(Number a, Number bound) {
  return {std::clamp(a.value, -bound.value, bound.value), a.error};
}
Number AtLeast0(Number a) { return {std::max(0.0, a.value), a.error}; }

struct Element {
  Number w = 0;
  std::vector<Number> slots;
};
struct Rates {
  int t = 0;
  Number scale = 0, clip = 0, lr = 0, decay = 0;
};
using Formula = std::function<void(const Rates& r, Number g, Element& e)>;

struct Case {
  std::string name;
  Params params;
  // The hyper-parameter that float32 holds.
  Number operator()(const char* param, double fallback) const {
    const auto found = params.find(param);
    return {static_cast<float>(found == params.end() ? fallback : found->second)};
  }
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.name;
  for (const auto& [name, value] : c.params) *out << " " << name << "=" << value;
}

// As ps/optimizers/<name>.cc states it.
Formula FormulaOf(const Case& c) {
  if (c.name == "sgd") return [](const Rates& r, Number g, Element& e) { e.w = e.w - r.lr * g; };
  if (c.name == "momentum" || c.name == "nesterov") {
    return [mu = c("momentum", 0.9), ahead = c.name == "nesterov"](const Rates& r, Number g,
                                                                   Element& e) {
      Number& m = e.slots[0];
      m = mu * m + g;
      e.w = e.w - r.lr * (ahead ? g + mu * m : m);
    };
  }
  if (c.name == "adagrad") {
    return [epsilon = c("epsilon", 0)](const Rates& r, Number g, Element& e) {
      Number& a = e.slots[0];
      a = a + g * g;
      e.w = e.w - r.lr * g / (Sqrt(a) + epsilon);
    };
  }
  if (c.name == "rmsprop") {
    return [rho = c("rho", 0.9), momentum = c("momentum", 0), epsilon = c("epsilon", 1e-10),
            centered = c("centered", 0).value == 1](const Rates& r, Number g, Element& e) {
      Number& s = e.slots[0];
      s = rho * s + (1 - rho) * g * g;
      Number variance = s;
      if (centered) {
        Number& mean = e.slots.back();
        mean = rho * mean + (1 - rho) * g;
        variance = AtLeast0(s - mean * mean);
      }
      Number u = r.lr * g / Sqrt(variance + epsilon);
      if (momentum.value > 0) e.slots[1] = u = momentum * e.slots[1] + u;
      e.w = e.w - u;
    };
  }
  if (c.name == "adam" || c.name == "adamw") {
    return [b1 = c("beta1", 0.9), b2 = c("beta2", 0.999), epsilon = c("epsilon", 1e-8),
            decoupled = c.name == "adamw"](const Rates& r, Number g, Element& e) {
      Number &m = e.slots[0], &v = e.slots[1];
      m = b1 * m + (1 - b1) * g;
      v = b2 * v + (1 - b2) * g * g;
      const Number m_hat = m / (1 - std::pow(b1.value, r.t));
      const Number v_hat = v / (1 - std::pow(b2.value, r.t));
      const Number step = r.lr * m_hat / (Sqrt(v_hat) + epsilon);
      e.w = decoupled ? e.w - step - r.lr * r.decay * e.w : e.w - step;
    };
  }
  if (c.name == "lamb") {  // the trust ratio is the slice's: norms_test.cc
    return [b1 = c("beta1", 0.9), b2 = c("beta2", 0.999), epsilon = c("epsilon", 1e-6)](
               const Rates& r, Number g, Element& e) {
      Number &m = e.slots[0], &v = e.slots[1];
      m = b1 * m + (1 - b1) * g;
      v = b2 * v + (1 - b2) * g * g;
      const Number m_hat = m / (1 - std::pow(b1.value, r.t));
      const Number v_hat = v / (1 - std::pow(b2.value, r.t));
      e.w = e.w - r.lr * (m_hat / (Sqrt(v_hat) + epsilon) + r.decay * e.w);
    };
  }
  if (c.name == "ftrl") {
    return [p = -c("learning_rate_power", -0.5).value, l1 = c("l1", 0), l2 = c("l2", 0)](
               const Rates& r, Number g, Element& e) {
      Number &a = e.slots[0], &z = e.slots[1];
      const Number b = a + g * g;
      z = z + g - (Pow(b, p) - Pow(a, p)) / r.lr * e.w;
      a = b;
      const Number size = AtLeast0((z.value < 0 ? 0 - z : z) - l1);
      const Number w = size / (Pow(b, p) / r.lr + 2 * l2);
      e.w = z.value < 0 ? w : 0 - w;
    };
  }
  ADD_FAILURE() << "no formula of " << c.name;
  return nullptr;
}

// A slice of n elements and its optimizer.
struct Slice {
  explicit Slice(const Case& c, size_t n) : optimizer(Make(c.name, c.params)), w(n) {
    for (size_t i = 0; i < optimizer->slot_names().size(); ++i) {
      slots.emplace_back(n, optimizer->slot_init(static_cast<int>(i)));
    }
  }
  // Applies `grad` to elements [begin, end) into `next`, which may be w's own.
  void Apply(const StepInfo& info, std::span<const float> grad, std::span<float> next, size_t begin,
             size_t end) {
    const size_t size = end - begin;
    std::vector<std::span<float>> views;
    for (auto& slot : slots) views.push_back(std::span(slot).subspan(begin, size));
    const std::span<const float> part = std::span(w).subspan(begin, size);
    std::vector<float> use(grad.begin() + static_cast<ptrdiff_t>(begin),
                           grad.begin() + static_cast<ptrdiff_t>(end));
    if (optimizer->has_trust_ratio()) optimizer->Direct(*stream, info, use, part, views);
    optimizer->Apply(*stream, info, use, part, next.subspan(begin, size), views);
  }
  void Apply(const StepInfo& info, std::span<const float> grad) {
    std::vector<float> next(w.size());
    Apply(info, grad, next, 0, w.size());
    w = next;
  }
  Element At(size_t i) const {
    Element element;
    element.w = double{w[i]};
    for (const auto& slot : slots) element.slots.emplace_back(double{slot[i]});
    return element;
  }

  std::unique_ptr<const Optimizer> optimizer;
  const std::unique_ptr<Device> cpu = MakeCpuDevice(1);
  const std::unique_ptr<Stream> stream = cpu->MakeStream();
  std::vector<float> w;
  std::vector<std::vector<float>> slots;
};

void ExpectNear(float got, const Number& want, const std::string& what) {
  // Twice: the code may take the operations in another order.
  ASSERT_NEAR(got, want.value, 2 * want.error) << what;
}

// One step of `slice` and of `elements`, and their comparison.
void Step(const Case& c, const StepInfo& info, const std::vector<float>& grad, Slice& slice,
          std::vector<Element>& elements) {
  slice.Apply(info, grad);
  const Rates rates = {static_cast<int>(info.applies), double{info.scale}, double{info.clip_value},
                       double{info.learning_rate}, double{info.weight_decay}};
  const Formula formula = FormulaOf(c);
  for (size_t i = 0; i < elements.size(); ++i) {
    Element& e = elements[i];
    const Number mean = Clamp(rates.scale * double{grad[i]}, rates.clip);
    formula(rates, c.name == "adamw" || c.name == "lamb" ? mean : mean + rates.decay * e.w, e);
    const std::string place = ::testing::PrintToString(c) + ", step " + std::to_string(info.step) +
                              ", element " + std::to_string(i);
    ExpectNear(slice.w[i], e.w, place);
    for (size_t s = 0; s < e.slots.size(); ++s) {
      ExpectNear(slice.slots[s][i], e.slots[s], place + ", slot " + std::to_string(s));
    }
  }
}

StepInfo Info(int64_t t, float learning_rate, float scale, float weight_decay) {
  StepInfo info;
  info.step = t - 1;
  info.applies = t;
  info.learning_rate = learning_rate;
  info.scale = scale;
  info.weight_decay = weight_decay;
  return info;
}

// Of any sign, and of magnitudes from 1e-6 to 1e3.
std::vector<float> Values(size_t n, std::mt19937& rng) {
  std::uniform_real_distribution<float> exponent(-6, 3);
  std::vector<float> values(n);
  for (float& x : values) x = std::pow(10.0f, exponent(rng)) * (rng() % 2 == 0 ? 1.0f : -1.0f);
  return values;
}

class EveryOptimizer : public ::testing::TestWithParam<Case> {};

TEST_P(EveryOptimizer, ThreeStepsFollowTheFormula) {
  constexpr size_t kN = 19;
  Slice slice(GetParam(), kN);
  std::vector<Element> elements;
  for (size_t i = 0; i < kN; ++i) {
    slice.w[i] = std::sin(static_cast<float>(i));
    elements.push_back(slice.At(i));
  }
  const float rates[] = {0.5f, 0.5f, 0.125f};
  for (int t = 1; t <= 3; ++t) {
    std::vector<float> grad(kN);
    for (size_t i = 0; i < kN; ++i) {
      grad[i] = std::cos(static_cast<float>(i) * 0.7f + static_cast<float>(t));
    }
    Step(GetParam(), Info(t, rates[t - 1], 0.5f, 0.25f), grad, slice, elements);
  }
}

TEST_P(EveryOptimizer, RandomSizesAndValuesFollowTheFormula) {
  std::mt19937 rng(7);
  std::uniform_real_distribution<float> unit(0.01f, 1);
  for (int round = 0; round < 40; ++round) {
    const size_t n = rng() % 200;
    Slice slice(GetParam(), n);
    slice.w = Values(n, rng);
    for (int t = 1; t <= 4; ++t) {
      std::vector<Element> elements;
      for (size_t i = 0; i < n; ++i) elements.push_back(slice.At(i));
      StepInfo info = Info(t, unit(rng), unit(rng), rng() % 2 == 0 ? 0 : unit(rng));
      if (rng() % 2 == 0) info.clip_value = unit(rng);
      Step(GetParam(), info, Values(n, rng), slice, elements);
    }
  }
}

TEST_P(EveryOptimizer, CuttingASliceAnywhereGivesTheSameBits) {
  constexpr size_t kN = 67;
  std::mt19937 rng(11);
  Slice whole(GetParam(), kN);
  whole.w = Values(kN, rng);
  whole.Apply(Info(1, 0.1f, 0.3f, 0.01f), Values(kN, rng));  // slots apart from their first values
  const std::vector<float> w = whole.w, grad = Values(kN, rng);
  const std::vector<std::vector<float>> slots = whole.slots;
  const StepInfo info = Info(2, 0.1f, 0.3f, 0.01f);
  whole.Apply(info, grad);
  for (size_t cut = 0; cut <= kN; ++cut) {
    Slice parts(GetParam(), kN);
    parts.w = w;
    parts.slots = slots;
    std::vector<float> next(kN, 7.0f);
    parts.Apply(info, grad, next, cut, kN);
    for (size_t i = 0; i < cut; ++i) ASSERT_EQ(next[i], 7.0f) << "written outside, cut " << cut;
    parts.Apply(info, grad, next, 0, cut);
    ASSERT_EQ(next, whole.w) << "cut at " << cut;
    ASSERT_EQ(parts.slots, whole.slots) << "cut at " << cut;
  }
  Slice in_place(GetParam(), kN);
  in_place.w = w;
  in_place.slots = slots;
  in_place.Apply(info, grad, in_place.w, 0, kN);
  EXPECT_EQ(in_place.w, whole.w) << "in place";
}

const std::vector<Case>& Cases() {
  static const std::vector<Case> cases = {
      {"sgd", {}},
      {"momentum", {}},
      {"momentum", {{"momentum", 0.75}}},
      {"nesterov", {}},
      {"nesterov", {{"momentum", 0.75}}},
      {"adagrad", {}},
      {"adagrad", {{"initial_accumulator", 0.25}, {"epsilon", 0.125}}},
      {"rmsprop", {}},
      {"rmsprop", {{"rho", 0.75}, {"epsilon", 0.125}}},
      {"rmsprop", {{"momentum", 0.5}}},
      {"rmsprop", {{"centered", 1}}},
      {"rmsprop", {{"centered", 1}, {"momentum", 0.5}, {"rho", 0.75}, {"epsilon", 0.125}}},
      {"adam", {}},
      {"adam", {{"beta1", 0.75}, {"beta2", 0.875}, {"epsilon", 0.125}}},
      {"adamw", {}},
      {"adamw", {{"beta1", 0.75}, {"beta2", 0.875}, {"epsilon", 0.125}}},
      {"lamb", {}},
      {"lamb", {{"beta1", 0.75}, {"beta2", 0.875}, {"epsilon", 0.125}}},
      {"ftrl", {}},
      {"ftrl", {{"l1", 0.25}, {"l2", 0.5}, {"initial_accumulator", 1}}},
      {"ftrl", {{"l1", 0.01}, {"learning_rate_power", -0.75}}},
      {"ftrl", {{"learning_rate_power", -1}, {"l2", 0.5}, {"initial_accumulator", 0}}},
      {"ftrl", {{"learning_rate_power", 0}, {"initial_accumulator", 0}}},
  };
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Formulas, EveryOptimizer, ::testing::ValuesIn(Cases()));

TEST(OptimizerTest, EveryNameOfTheTableHasAFormulaHere) {
  std::set<std::string> named;
  for (const Case& c : Cases()) named.insert(c.name);
  EXPECT_THAT(OptimizerNames(), ::testing::UnorderedElementsAreArray(named));
}

TEST(OptimizerTest, AdamsFirstStepIsTheLearningRateWhateverTheGradient) {
  const auto adam = Make("adam");
  const auto cpu = MakeCpuDevice(1);
  const auto stream = cpu->MakeStream();
  for (const float g : {1e-4f, 1.0f, 1e4f}) {
    float w = 0, m = 0, v = 0;
    StepInfo info;
    info.learning_rate = 0.5f;
    const std::vector<std::span<float>> slots = {{&m, 1}, {&v, 1}};
    adam->Apply(*stream, info, {&g, 1}, {&w, 1}, {&w, 1}, slots);
    // epsilon (1e-8) against |g|, and a few roundings.
    EXPECT_NEAR(w, -0.5f, 0.5 * (1e-8 / g + 8 * kEpsilon));
  }
}

TEST(OptimizerTest, DefaultsAreTensorFlows) {
  EXPECT_EQ(Make("adagrad")->slot_init(0), 0.1f);
  const auto cpu = MakeCpuDevice(1);
  float w = 1, m = 2;
  const float g = 3;
  StepInfo info;
  info.learning_rate = 1;
  const std::vector<std::span<float>> slots = {{&m, 1}};
  Make("momentum")->Apply(*cpu->MakeStream(), info, {&g, 1}, {&w, 1}, {&w, 1}, slots);
  EXPECT_FLOAT_EQ(m, 0.9f * 2 + 3);
  EXPECT_FLOAT_EQ(w, 1 - m);
}

TEST(OptimizerTest, ClippingClampsTheAveragedGradientBeforeTheDecay) {
  Slice slice({"sgd", {}}, 5);
  slice.w = {1, 1, 1, 1, 1};
  StepInfo info = Info(1, 1, /*scale=*/0.5f, /*weight_decay=*/0.25f);
  info.clip_value = 2;
  slice.Apply(info, std::vector<float>{3, 4, 5, -100, 0});
  EXPECT_EQ(slice.w, (std::vector<float>{0.75f - 1.5f, 0.75f - 2, 0.75f - 2, 0.75f + 2, 0.75f}));
}

TEST(OptimizerTest, AdamWWithoutDecayIsAdam) {
  std::mt19937 rng(3);
  Slice adam({"adam", {}}, 50), adamw({"adamw", {}}, 50);
  adam.w = adamw.w = Values(50, rng);
  for (int t = 1; t <= 5; ++t) {
    const std::vector<float> grad = Values(50, rng);
    adam.Apply(Info(t, 0.1f, 1, 0), grad);
    adamw.Apply(Info(t, 0.1f, 1, 0), grad);
  }
  EXPECT_EQ(adam.w, adamw.w);
  EXPECT_EQ(adam.slots, adamw.slots);
}

TEST(OptimizerTest, RmspropKeepsOnlyTheArraysItNeeds) {
  EXPECT_EQ(Make("rmsprop")->slot_names(), (std::vector<std::string>{"rmsprop_square"}));
  const auto all = Make("rmsprop", {{"centered", 1}, {"momentum", 0.9}});
  EXPECT_EQ(all->slot_names(),
            (std::vector<std::string>{"rmsprop_square", "rmsprop_velocity", "rmsprop_mean"}));
  EXPECT_EQ(all->slot_init(0), 1);
  EXPECT_EQ(all->slot_init(1), 0);
  EXPECT_EQ(all->slot_init(2), 0);
}

TEST(OptimizerTest, CenteredRmspropStaysFiniteWhereTheVarianceVanishes) {
  Slice slice({"rmsprop", {{"centered", 1}, {"rho", 0.5}}}, 9);
  const std::vector<float> grad = {1e3f, 777.7f, 33.3f, 1, 0.1f, 1e-3f, -1e3f, -0.3f, 0};
  for (int t = 1; t <= 500; ++t) slice.Apply(Info(t, 1e-6f, 1, 0), grad);
  for (const float w : slice.w) EXPECT_TRUE(std::isfinite(w)) << w;
}

TEST(OptimizerTest, FtrlsL1MakesWeightsExactlyZero) {
  Slice slice({"ftrl", {{"l1", 1}}}, 2);
  for (int t = 1; t <= 3; ++t) slice.Apply(Info(t, 0.5f, 1, 0), std::vector<float>{0.25f, -2});
  EXPECT_EQ(slice.w[0], 0) << "3 * 0.25 is below l1";
  EXPECT_GT(slice.w[1], 0);
}

TEST(OptimizerTest, FtrlLeavesAllAsItIsWhereTheRateIs0) {
  Slice slice({"ftrl", {}}, 3);
  slice.w = {1, -2, 3};
  const std::vector<float> w = slice.w;
  const std::vector<std::vector<float>> slots = slice.slots;
  slice.Apply(Info(1, 0, 1, 0), std::vector<float>{1, 2, 3});
  EXPECT_EQ(slice.w, w);
  EXPECT_EQ(slice.slots, slots);
}

TEST(OptimizerTest, UnknownNamesAnswerWithTheValidOnes) {
  EXPECT_EQ(MakeOptimizer("adm", {}).status().message(),
            "unknown optimizer 'adm'; write one of sgd, momentum, nesterov, adagrad, rmsprop, "
            "adam, adamw, lamb, ftrl");
  EXPECT_EQ(MakeOptimizer("adam", {{"beta", 0.9}}).status().message(),
            "optimizer 'adam' has no hyper-parameter 'beta'; write one of beta1, beta2, epsilon");
  EXPECT_EQ(MakeOptimizer("sgd", {{"momentum", 0.9}}).status().message(),
            "optimizer 'sgd' has no hyper-parameter 'momentum'; it has none");
}

TEST(OptimizerTest, HyperParametersOutOfRangeAreRefused) {
  EXPECT_EQ(MakeOptimizer("momentum", {{"momentum", 1.0}}).status().message(),
            "optimizer 'momentum': momentum is 1; it must be at least 0 and below 1");
  for (const double bad : {-0.1, 1.0, 1 - 1e-12, std::nan("")}) {
    EXPECT_FALSE(MakeOptimizer("adam", {{"beta2", bad}}).ok()) << bad;
  }
  EXPECT_FALSE(MakeOptimizer("adam", {{"epsilon", 0.0}}).ok());
  EXPECT_FALSE(MakeOptimizer("adamw", {{"beta1", 1.0}}).ok());
  EXPECT_FALSE(MakeOptimizer("nesterov", {{"momentum", -1.0}}).ok());
  EXPECT_FALSE(MakeOptimizer("rmsprop", {{"rho", 1.0}}).ok());
  EXPECT_EQ(MakeOptimizer("rmsprop", {{"centered", 0.5}}).status().message(),
            "optimizer 'rmsprop': centered is 0.5; it must be 0 or 1");
  for (const double bad : {-1.5, 0.5, std::nan("")}) {
    EXPECT_FALSE(MakeOptimizer("ftrl", {{"learning_rate_power", bad}}).ok()) << bad;
  }
  EXPECT_EQ(MakeOptimizer("ftrl", {{"learning_rate_power", 0.5}}).status().message(),
            "optimizer 'ftrl': learning_rate_power is 0.5; it must be from -1 to 0");
  EXPECT_EQ(MakeOptimizer("ftrl", {{"initial_accumulator", 0.0}}).status().message(),
            "optimizer 'ftrl': initial_accumulator and l2 are both 0, so a zero gradient would "
            "give 0/0; make one of them positive");
  EXPECT_TRUE(MakeOptimizer("ftrl", {{"initial_accumulator", 0.0}, {"l2", 1e-7}}).ok());
  EXPECT_FALSE(MakeOptimizer("adagrad", {{"initial_accumulator", 0.0}}).ok());
  EXPECT_TRUE(MakeOptimizer("adagrad", {{"initial_accumulator", 0.0}, {"epsilon", 1e-7}}).ok());
}

}  // namespace
}  // namespace muster::ps
