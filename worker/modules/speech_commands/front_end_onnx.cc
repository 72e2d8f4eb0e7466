#include "worker/modules/speech_commands/front_end_onnx.h"

#include <cstdint>
#include <vector>

namespace muster::worker {

std::string AddMfccNodes(const MfccFrontEnd& front_end, const std::string& pcm, OnnxBuilder& onnx) {
  constexpr int64_t kBatch = OnnxBuilder::kBatch;
  const FrontEndSettings& settings = front_end.settings();
  const int64_t frames = front_end.frames();
  const int64_t channels = settings.mel_channels;
  const int64_t coefficients = settings.coefficients;
  const int bins = front_end.last_bin() - front_end.first_bin() + 1;

  const std::string filters = onnx.AddConstant("front_end/fourier", {2 * bins, 1, settings.window},
                                               front_end.FourierFilters(bins));
  const std::string mel_weights = onnx.AddConstant(
      "front_end/mel_weights", {bins, channels},
      front_end.mel().subspan(size_t(front_end.first_bin()) * channels, size_t(bins) * channels));
  const std::string floor =
      onnx.AddConstant("front_end/floor", {}, std::vector{MfccFrontEnd::kFloor});
  std::vector<float> dct(size_t(channels) * coefficients);  // [channels, coefficients]
  for (int64_t i = 0; i < coefficients; ++i) {
    for (int64_t c = 0; c < channels; ++c)
      dct[c * coefficients + i] = front_end.dct()[i * channels + c];
  }
  const std::string dct_weights = onnx.AddConstant("front_end/dct", {channels, coefficients}, dct);

  std::string x = onnx.AddReshape("front_end/signal", pcm, {kBatch, 1, settings.clip_samples});
  x = onnx.AddNode("Conv", "front_end/spectrum", {x, filters},  // [batch, 2 * bins, frames]
                   {{"kernel_shape", std::vector<int64_t>{settings.window}},
                    {"strides", std::vector<int64_t>{settings.stride}}});
  x = onnx.AddReshape("front_end/complex", x, {kBatch, 2, bins, frames});
  x = onnx.AddNode("ReduceL2", "front_end/magnitude", {x},
                   {{"axes", std::vector<int64_t>{1}}, {"keepdims", int64_t{0}}});
  x = onnx.AddNode("Transpose", "front_end/frames", {x}, {{"perm", std::vector<int64_t>{0, 2, 1}}});
  x = onnx.AddNode("MatMul", "front_end/mel", {x, mel_weights});
  x = onnx.AddNode("Max", "front_end/audible", {x, floor});
  x = onnx.AddNode("Log", "front_end/log", {x});
  x = onnx.AddNode("MatMul", "front_end/cepstrum", {x, dct_weights});
  return onnx.AddReshape("front_end/coefficients", x, {kBatch, frames * coefficients});
}

FrontEnd MakePcmFrontEnd(const MfccFrontEnd& front_end, OnnxBuilder& onnx) {
  const FrontEndSettings& settings = front_end.settings();
  FrontEnd result;
  result.input = "pcm";
  result.input_shape = {OnnxBuilder::kBatch, settings.clip_samples};
  result.input_means =
      "one clip per row: mono PCM at sampleRate Hz, samples from -1 to 1 (16-bit samples divided "
      "by "
      "32768); a longer clip is cut, a shorter one ends in zeros";
  result.numbers = {{"sampleRate", settings.sample_rate}, {"clipSamples", settings.clip_samples}};
  result.value = AddMfccNodes(front_end, onnx.AddInput(result.input, result.input_shape), onnx);
  return result;
}

}  // namespace muster::worker
