// Slice's updates in two phases. With the summed gradient s of a step and its scale 1/V:
//
//   clipping      norm = scale * sqrt(sum of s^2 over all weights of the model)
//                 scale = scale * min(1, clip_norm / norm)
//   trust ratio   r = the optimizer's direction; for each parameter with decay, where neither norm
//                 is 0: learning rate = learning rate * norm(w) / norm(r)
//
// Sources: Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural networks",
// ICML 2013 (algorithm 1, over all parameters); You et al., "Large Batch Optimization for Deep
// Learning: Training BERT in 76 minutes", ICLR 2020 (algorithm 2). That parameters without decay
// keep their rate is how that paper's authors published their code (biases and normalisation are
// excluded from decay and adaptation alike).
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "ps/slice.h"
#include "ps/wire.h"

namespace muster::ps {

bool Slice::Clips() const { return std::isfinite(context_.options->clip_norm); }

void Slice::BeginNorms(const StepInfo& info) {
  norms_.step = state_.version;
  norms_.info = info;
  norms_.sums = {};
  values_.ResetTrust();
  if (Clips()) return BeginRound(NormRound::kGradient);
  values_.Direct(norms_.info);
  BeginRound(NormRound::kTrust);
}

void Slice::BeginRound(NormRound round) {
  std::vector<double>& sums = norms_.sums[static_cast<size_t>(round)];
  sums = values_.Squares(round);
  if (!std::all_of(sums.begin(), sums.end(), [](double x) { return std::isfinite(x); })) {
    const absl::Status status = absl::InvalidArgumentError(fmt::format(
        "the weights of {} or their update are not finite at step {}; lower the learning rate",
        Name(), norms_.step));
    Poison(status);
    if (context_.events->on_bad_push) context_.events->on_bad_push(status);
    return;
  }
  norms_.awaited = round;
  SendNorms(round);
}

void Slice::SendNorms(NormRound round) {
  const std::vector<double>& sums = norms_.sums[static_cast<size_t>(round)];
  if (sums.empty() || norms_.peer == nullptr) return;
  context_.outbox->Send(*norms_.peer, NormsMessage(id_, norms_.step, round, sums));
}

void Slice::OnTotals(const std::shared_ptr<Peer>& peer, const rpc::Message& message) {
  const auto round = static_cast<NormRound>(message.header.code);
  if (norms_.awaited != round || message.header.step != norms_.step || peer != norms_.peer) {
    Count(context_.counters->repeated);
    return;
  }
  const std::vector<double> totals = DoublesOf(message.payload);
  if (!Plausible(round, totals)) {
    Refuse(*peer, message.header,
           absl::InvalidArgumentError(
               fmt::format("the totals for {} at step {} are less than its own part, or not finite",
                           Name(), norms_.step)));
    return;
  }
  norms_.awaited.reset();
  if (round == NormRound::kTrust) {
    values_.SetTrust(totals);
  } else {
    ClipByNorm(totals.front());
    if (context_.optimizer->has_trust_ratio()) {
      values_.Direct(norms_.info);
      return BeginRound(NormRound::kTrust);
    }
  }
  Apply(message.header, norms_.info);
  Advance();
  FoldHeld(/*staleness=*/0, state_.version);
  AnswerReaders();
  ReachCuts();
}

// Adding non-negative numbers never makes a sum less, not even when it is rounded.
bool Slice::Plausible(NormRound round, const std::vector<double>& totals) const {
  std::vector<double> own(totals.size(), 0.0);
  const auto width = static_cast<size_t>(NormWidth(round));
  const double* next = norms_.sums[static_cast<size_t>(round)].data();
  ParamId last = -1;
  size_t at = 0;  // of the parameter's totals
  ForEachNormBlock(*context_.table, slice_, [&](ParamId param, int64_t, int64_t) {
    if (round == NormRound::kTrust && last >= 0 && param != last) at += width;
    last = param;
    for (size_t i = 0; i < width; ++i) own[at + i] += *next++;
  });
  for (size_t i = 0; i < own.size(); ++i) {
    if (!(totals[i] >= own[i] && std::isfinite(totals[i]))) return false;
  }
  return true;
}

void Slice::ClipByNorm(double total) {
  const double scale = norms_.info.scale, most = context_.options->clip_norm;
  const double norm = scale * std::sqrt(total);
  if (norm > most) norms_.info.scale = static_cast<float>(scale * (most / norm));
}

}  // namespace muster::ps
