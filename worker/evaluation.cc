#include "worker/evaluation.h"

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "kernels/pinned.h"
#include "telemetry/check.h"

namespace muster::worker {
namespace {

// One model's logits of a batch, in memory of the host where a device can leave them by itself.
class Logits {
 public:
  explicit Logits(Model& model) : model_(model) {}
  // Nothing is written any more when the memory goes.
  ~Logits() { (void)Await(); }
  Logits(const Logits&) = delete;
  Logits& operator=(const Logits&) = delete;

  // The model answers.
  void Predict(std::span<const float> weights, const Batch& batch) {
    size_ = static_cast<size_t>(batch.size * model_.num_classes());
    Reserve();
    model_.Predict(weights, batch, {memory_.get(), size_});
  }
  // Returns when it has. Fails when the device does.
  absl::Status Await() {
    return model_.stream() == nullptr ? absl::OkStatus() : model_.stream()->Synchronize();
  }
  // Adds the answers to the counts. PRECONDITION: Await.
  void Count(std::span<const int32_t> labels, Confusion& confusion) const {
    const auto classes = static_cast<size_t>(model_.num_classes());
    const std::span<const float> logits(memory_.get(), size_);
    for (size_t row = 0; row * classes < size_; ++row) {
      const auto scores = logits.subspan(row * classes, classes);
      const auto predicted = std::max_element(scores.begin(), scores.end()) - scores.begin();
      ++confusion[static_cast<size_t>(labels[row]) * classes + static_cast<size_t>(predicted)];
    }
  }

 private:
  static constexpr size_t kPage = 4096;  // what pinned memory consists of

  struct FreeMemory {
    void operator()(float* memory) const { std::free(memory); }
  };

  // Room for size_ elements.
  void Reserve() {
    const size_t bytes = (size_ * sizeof(float) + kPage - 1) / kPage * kPage;
    if (bytes <= bytes_) return;
    pinned_.reset();
    memory_.reset(static_cast<float*>(std::aligned_alloc(kPage, bytes)));
    CHECK(memory_ != nullptr);
    bytes_ = bytes;
    if (model_.stream() != nullptr)
      pinned_.emplace(model_.stream()->device(), memory_.get(), bytes);
  }

  Model& model_;
  std::unique_ptr<float[], FreeMemory> memory_;
  std::optional<Pinned> pinned_;  // goes before the memory does
  size_t bytes_ = 0;
  size_t size_ = 0;  // elements, of the last batch
};

}  // namespace

absl::StatusOr<Confusion> Evaluate(ModelGroup& models, ConstArenas weights, LoaderGroup& loaders,
                                   int32_t share,
                                   const std::function<absl::Status(int64_t done)>& on_batch) {
  CHECK_EQ(models.size(), loaders.size());
  const auto classes = static_cast<size_t>(models.model(0).num_classes());
  std::vector<std::unique_ptr<Logits>> logits;
  for (size_t i = 0; i < models.size(); ++i) {
    logits.push_back(std::make_unique<Logits>(models.model(i)));
  }
  Confusion confusion(classes * classes);
  int64_t done = 0;
  loaders.SetReplicas({share}, 0);
  for (int64_t step = 0;; ++step) {
    ASSIGN_OR_RETURN(const std::span<const Batch> parts, loaders.Next(step, share));
    const int64_t whole = parts.front().whole;
    if (whole == 0) return confusion;
    RETURN_IF_ERROR(on_batch(done));
    // A small batch has none for some.
    for (size_t i = 0; i < parts.size(); ++i) {
      if (parts[i].size > 0) logits[i]->Predict(weights[i], parts[i]);
    }
    for (size_t i = 0; i < parts.size(); ++i) {
      if (parts[i].size == 0) continue;
      RETURN_IF_ERROR(logits[i]->Await());
      logits[i]->Count(loaders[i].labels(), confusion);
    }
    done += whole;
  }
}

}  // namespace muster::worker
