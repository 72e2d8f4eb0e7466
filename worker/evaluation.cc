#include "worker/evaluation.h"

#include <algorithm>
#include <vector>

namespace muster::worker {

absl::StatusOr<Confusion> Evaluate(Model& model, std::span<const float> weights, Loader& loader,
                                   int32_t share,
                                   const std::function<absl::Status(int64_t done)>& on_batch) {
  const auto classes = static_cast<size_t>(model.num_classes());
  std::vector<float> logits;
  Confusion confusion(classes * classes);
  int64_t done = 0;
  loader.SetReplicas({share}, 0);
  for (int64_t step = 0;; ++step) {
    ASSIGN_OR_RETURN(const Batch batch, loader.Next(step, share));
    if (batch.size == 0) return confusion;
    RETURN_IF_ERROR(on_batch(done));
    logits.resize(static_cast<size_t>(batch.size) * classes);
    model.Predict(weights, batch, logits);
    for (size_t row = 0; row < static_cast<size_t>(batch.size); ++row) {
      const auto scores = std::span(logits).subspan(row * classes, classes);
      const auto predicted = std::max_element(scores.begin(), scores.end()) - scores.begin();
      ++confusion[static_cast<size_t>(loader.labels()[row]) * classes +
                  static_cast<size_t>(predicted)];
    }
    done += batch.size;
  }
}

}  // namespace muster::worker
