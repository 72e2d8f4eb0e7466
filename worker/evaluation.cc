#include "worker/evaluation.h"

#include <algorithm>
#include <vector>

namespace muster::worker {

absl::StatusOr<Confusion> Evaluate(Model& model, std::span<const float> weights,
                                   const Dataset& dataset, EvaluationShare share,
                                   int64_t batch_size,
                                   const std::function<absl::Status(int64_t done)>& on_batch) {
  const int64_t input_size = dataset.input_size(), classes = model.num_classes();
  std::vector<float> inputs(batch_size * input_size), logits(batch_size * classes);
  std::vector<int32_t> labels(batch_size);
  Confusion confusion(classes * classes);
  int64_t done = 0;
  for (int64_t index = share.first; index < dataset.size();) {
    RETURN_IF_ERROR(on_batch(done));
    int64_t rows = 0;
    for (; rows < batch_size && index < dataset.size(); ++rows, index += share.stride) {
      RETURN_IF_ERROR(dataset.Get(
          index, 0, std::span(inputs).subspan(rows * input_size, input_size), &labels[rows]));
    }
    const Batch batch{std::span<const float>(inputs).first(rows * input_size),
                      std::span<const int32_t>(labels).first(rows), rows};
    model.Predict(weights, batch, std::span(logits).first(rows * classes));
    for (int64_t row = 0; row < rows; ++row) {
      const auto scores = std::span(logits).subspan(row * classes, classes);
      const int64_t predicted = std::max_element(scores.begin(), scores.end()) - scores.begin();
      ++confusion[labels[row] * classes + predicted];
    }
    done += rows;
  }
  return confusion;
}

}  // namespace muster::worker
