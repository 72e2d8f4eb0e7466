#include "worker/replays.h"

#include <utility>

namespace muster::worker {

void Replays::Run(const Key& key, const std::function<void()>& work) {
  if (!status_.ok()) return work();
  const int64_t frees = stream_.device().frees();
  if (frees != frees_ || known_.size() > kMostKeys) known_.clear();
  frees_ = frees;
  Known& known = known_[key];
  if (known.graph == nullptr) {
    if (known.plain_runs++ < kPlainRuns) return work();
    auto captured = Capture(work);
    if (!captured.ok()) {
      status_ = captured.status();
      known_.clear();
      return work();
    }
    known.graph = *std::move(captured);
  }
  known.graph->Launch(stream_);
}

absl::StatusOr<std::unique_ptr<Graph>> Replays::Capture(const std::function<void()>& work) {
  RETURN_IF_ERROR(stream_.BeginCapture());
  work();
  return stream_.EndCapture();
}

}  // namespace muster::worker
