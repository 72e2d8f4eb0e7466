#include "ps/norms.h"

#include <algorithm>
#include <cmath>

#include "kernels/optimizer_math.h"
#include "telemetry/check.h"

namespace muster::ps {
namespace {

bool IsWeight(const ParamTable& table, ParamId param) {
  return table.specs()[static_cast<size_t>(param)].kind == ParamSpec::Kind::kWeight;
}

}  // namespace

int NormWidth(NormRound round) { return round == NormRound::kTrust ? 2 : 1; }

void ForEachNormBlock(const ParamTable& table, const ParamSlice& slice,
                      absl::FunctionRef<void(ParamId param, int64_t at, int64_t size)> visit) {
  ForEachPart(table, slice, [&](const ParamSlice& part, int64_t at) {
    if (!IsWeight(table, part.param)) return;
    CHECK_EQ(part.begin % kNormBlock, 0);
    for (int64_t begin = 0; begin < part.size; begin += kNormBlock) {
      visit(part.param, at + begin, std::min(kNormBlock, part.size - begin));
    }
  });
}

size_t NormValues(const ParamTable& table, const ParamSlice& slice, NormRound round) {
  size_t blocks = 0;
  ForEachNormBlock(table, slice, [&](ParamId, int64_t, int64_t) { ++blocks; });
  return blocks * static_cast<size_t>(NormWidth(round));
}

size_t TotalValues(const ParamTable& table, const ParamSlice& slice, NormRound round) {
  size_t params = 0;
  ForEachPart(table, slice, [&](const ParamSlice& part, int64_t) {
    params += IsWeight(table, part.param) ? 1 : 0;
  });
  if (round == NormRound::kGradient) return std::min<size_t>(params, 1);
  return params * static_cast<size_t>(NormWidth(round));
}

rpc::Payload DoublesPayload(const std::vector<double>& values) {
  return rpc::Payload::Own(
      std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(double)));
}

std::vector<double> DoublesOf(const rpc::Payload& payload) {
  CHECK_EQ(payload.size() % sizeof(double), 0u);
  std::vector<double> values(payload.size() / sizeof(double));
  payload.CopyTo(reinterpret_cast<std::byte*>(values.data()));
  return values;
}

void ClipByNorm(const ParamTable& table, double most, std::span<float> gradient) {
  const auto for_weights = [&](auto visit) {
    for (ParamId param = 0; param < static_cast<ParamId>(table.specs().size()); ++param) {
      const int64_t size = table.specs()[static_cast<size_t>(param)].size();
      if (!IsWeight(table, param)) continue;
      visit(gradient.subspan(static_cast<size_t>(table.offset(param)), static_cast<size_t>(size)));
    }
  };
  double total = 0;
  for_weights([&](std::span<float> part) {
    total += SumOfSquares(part.data(), static_cast<int64_t>(part.size()));
  });
  const double norm = std::sqrt(total);
  if (!(norm > most)) return;
  const auto factor = static_cast<float>(most / norm);
  for_weights([&](std::span<float> part) {
    for (float& g : part) g *= factor;
  });
}

NormTotals::NormTotals(const ParamTable& table, const Partition& partition)
    : table_(table), partition_(partition) {
  for (size_t id = 0; id < partition.slices.size(); ++id) {
    if (TotalValues(table, partition.slices[id], NormRound::kGradient) == 0) continue;
    slices_.push_back(static_cast<int32_t>(id));
  }
}

std::vector<int32_t> NormTotals::Add(int32_t slice, int64_t step, NormRound round,
                                     const rpc::Payload& norms) {
  Gathered& all = rounds_[static_cast<size_t>(round)];
  if (step < all.step) return {};
  if (step > all.step) {
    all = {step, {}, static_cast<int32_t>(slices_.size()), {}};
    all.norms.resize(partition_.slices.size());
  }
  std::vector<double>& place = all.norms[static_cast<size_t>(slice)];
  if (!place.empty()) return all.missing > 0 ? std::vector<int32_t>{} : std::vector{slice};
  place = DoublesOf(norms);
  if (--all.missing > 0) return {};
  AddUp(round, all);
  return slices_;
}

void NormTotals::AddUp(NormRound round, Gathered& all) const {
  const bool by_param = round == NormRound::kTrust;
  const auto width = static_cast<size_t>(NormWidth(round));
  all.totals.assign(by_param ? table_.specs().size() * width : width, 0.0);
  for (size_t id = 0; id < partition_.slices.size(); ++id) {
    const double* next = all.norms[id].data();
    ForEachNormBlock(table_, partition_.slices[id], [&](ParamId param, int64_t, int64_t) {
      double* total = all.totals.data() + (by_param ? static_cast<size_t>(param) * width : 0);
      for (size_t i = 0; i < width; ++i) total[i] += *next++;
    });
  }
}

std::vector<double> NormTotals::Of(int32_t slice, NormRound round) const {
  const Gathered& all = rounds_[static_cast<size_t>(round)];
  CHECK(all.step >= 0 && all.missing == 0);
  if (round == NormRound::kGradient) return all.totals;
  const auto width = static_cast<size_t>(NormWidth(round));
  std::vector<double> out;
  ForEachPart(table_, partition_.slices[static_cast<size_t>(slice)],
              [&](const ParamSlice& part, int64_t) {
                if (!IsWeight(table_, part.param)) return;
                const double* total = all.totals.data() + static_cast<size_t>(part.param) * width;
                out.insert(out.end(), total, total + width);
              });
  return out;
}

}  // namespace muster::ps
