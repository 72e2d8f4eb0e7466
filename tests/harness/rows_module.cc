#include "tests/harness/rows_module.h"

#include "kernels/philox.h"

namespace muster::harness {
namespace {

constexpr int64_t kInputs = kRowsImage.frames * kRowsImage.bins;

// Class c is a bright row, in noise.
class RowsDataset final : public worker::Dataset {
 public:
  RowsDataset(int64_t size, uint64_t seed, bool alike)
      : size_(size), key_(DeriveKey(seed, 1)), alike_(alike) {}
  int64_t size() const override { return size_; }
  int64_t input_size() const override { return kInputs; }
  absl::Status Get(int64_t index, int64_t, std::span<float> input, int32_t* label) const override {
    *label = static_cast<int32_t>(index % kRowsImage.classes);
    const int64_t image = alike_ ? 0 : index;
    for (int64_t i = 0; i < kInputs; ++i) {
      const bool bright = i / kRowsImage.bins == 3 * (image % kRowsImage.classes);
      const auto at = static_cast<uint64_t>(image * kInputs + i);
      input[static_cast<size_t>(i)] = (bright ? 2.0f : 0.0f) + UniformFloat(Philox(key_, at)[0]);
    }
    return absl::OkStatus();
  }

 private:
  const int64_t size_;
  const PhiloxKey key_;
  const bool alike_;
};

class RowsModule final : public worker::Module {
 public:
  explicit RowsModule(RowsOptions options) : options_(std::move(options)) {}
  std::unique_ptr<worker::Model> MakeModel(Device& device) const override {
    return *worker::MakeImageModel(options_.model, kRowsImage, device);
  }
  absl::StatusOr<std::shared_ptr<const worker::Dataset>> MakeDataset(worker::Split split,
                                                                     uint64_t seed,
                                                                     Log&) const override {
    return std::make_shared<RowsDataset>(64, seed + static_cast<uint64_t>(split), options_.alike);
  }
  std::vector<std::string> labels() const override {
    return {"first", "second", "third", "fourth"};
  }

 private:
  const RowsOptions options_;
};

}  // namespace

std::unique_ptr<worker::Module> MakeRowsModule(const RowsOptions& options) {
  return std::make_unique<RowsModule>(options);
}

}  // namespace muster::harness
