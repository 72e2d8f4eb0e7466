#include "master/gather.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace muster::master {

std::optional<double> LossGather::Add(int64_t step, int32_t replica, double loss) {
  if (step <= newest_) return std::nullopt;
  auto& losses = waiting_[step];
  losses[replica] = loss;
  if (static_cast<int>(losses.size()) < replicas_) return std::nullopt;
  double sum = 0;
  for (const auto& [v, value] : losses) sum += value;
  // Older points that are still incomplete stay incomplete only when a replica skipped them; they
  // are of no use any more.
  waiting_.erase(waiting_.begin(), waiting_.upper_bound(step));
  newest_ = step;
  return sum / replicas_;
}

std::optional<EvaluationPoint> EvaluationGather::Add(const Evaluated& share) {
  const auto newest = newest_.find(share.split());
  if (newest != newest_.end() && share.step() <= newest->second) return std::nullopt;
  auto& steps = waiting_[share.split()];
  auto& shares = steps[share.step()];
  if (!shares.empty() && (shares.begin()->second.shares() != share.shares() ||
                          shares.begin()->second.confusion_size() != share.confusion_size())) {
    return std::nullopt;
  }
  shares[share.replica()] = share;
  if (static_cast<int>(shares.size()) < share.shares()) return std::nullopt;
  EvaluationPoint point;
  point.step = share.step();
  point.split = share.split();
  point.confusion.assign(share.confusion_size(), 0);
  for (const auto& [replica, part] : shares) {
    for (int i = 0; i < part.confusion_size(); ++i) point.confusion[i] += part.confusion(i);
  }
  point.accuracy = Accuracy(point.confusion);
  // One before that lacks a share was evaluated by somebody whose last words were lost.
  steps.erase(steps.begin(), steps.upper_bound(share.step()));
  if (steps.empty()) waiting_.erase(share.split());
  newest_[point.split] = point.step;
  return point;
}

std::optional<CutGather::Result> CutGather::Add(int server, const CutDone& done) {
  const int index = done.has_replica() ? done.replica() : server;
  if (index < 0 || index >= (done.has_replica() ? replicas_ : servers_)) return std::nullopt;
  auto& parts = waiting_[done.clock()];
  parts[done.has_replica() ? servers_ + index : index] = done;
  if (static_cast<int>(parts.size()) < servers_ + replicas_) return std::nullopt;
  Result result;
  result.clock = done.clock();
  for (const auto& [place, part] : parts) {
    (place < servers_ ? result.files : result.residuals).push_back(part.file());
    if (result.error.empty()) result.error = part.error();
  }
  waiting_.erase(done.clock());
  return result;
}

double Accuracy(const std::vector<int64_t>& confusion) {
  const auto classes = static_cast<size_t>(std::lround(std::sqrt(confusion.size())));
  int64_t right = 0, all = 0;
  for (size_t i = 0; i < confusion.size(); ++i) {
    all += confusion[i];
    if (classes > 0 && i / classes == i % classes) right += confusion[i];
  }
  return all == 0 ? 0 : static_cast<double>(right) / static_cast<double>(all);
}

std::string FormatConfusion(const std::vector<int64_t>& confusion,
                            const std::vector<std::string>& labels) {
  size_t width = 5;
  for (const std::string& label : labels) width = std::max(width, label.size());
  const size_t classes = labels.size();
  if (confusion.size() != classes * classes) return "";
  std::string out = fmt::format("{:>{}}", "true\\as", width + 1);
  for (const std::string& label : labels) out += fmt::format(" {:>6.6}", label);
  for (size_t row = 0; row < classes; ++row) {
    out += fmt::format("\n{:>{}}", labels[row], width + 1);
    for (size_t column = 0; column < classes; ++column) {
      out += fmt::format(" {:>6}", confusion[row * classes + column]);
    }
  }
  return out;
}

}  // namespace muster::master
