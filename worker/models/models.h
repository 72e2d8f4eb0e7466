// The models, by name. A new one is one file here, one line in the table in models.cc, and its
// test.
//
// Free functions, thread-safe.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "telemetry/status.h"
#include "worker/model.h"

namespace muster::worker {

// What a model of spectrogram images [frames, bins] is told.
struct ImageModelSettings {
  int64_t frames = 98;  // spectrogram length
  int64_t bins = 40;    // coefficients per frame
  int64_t classes = 12;
  float dropout = 0.5f;  // rate, in training
};

// TensorFlow's speech_commands models (models.py): "single_fc", "conv", "low_latency_conv",
// "low_latency_svdf", "tiny_conv"; and ours, "conv_norm". An unknown name fails with the valid
// ones, an image too small for the model with the least size. `device` is borrowed.
absl::StatusOr<std::unique_ptr<Model>> MakeImageModel(const std::string& name,
                                                      const ImageModelSettings& settings,
                                                      Device& device);
std::vector<std::string> ImageModelNames();

// Each in its own file.
std::unique_ptr<Model> MakeSingleFc(const ImageModelSettings& settings, Device& device);
std::unique_ptr<Model> MakeConv(const ImageModelSettings& settings, Device& device);
std::unique_ptr<Model> MakeLowLatencyConv(const ImageModelSettings& settings, Device& device);
std::unique_ptr<Model> MakeLowLatencySvdf(const ImageModelSettings& settings, Device& device);
std::unique_ptr<Model> MakeTinyConv(const ImageModelSettings& settings, Device& device);
std::unique_ptr<Model> MakeConvNorm(const ImageModelSettings& settings, Device& device);

}  // namespace muster::worker
