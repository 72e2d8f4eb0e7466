#include "worker/modules/speech_commands/front_end_onnx.h"

#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

namespace muster::worker {
namespace {

// The bins that a mel channel reads: the others need not be computed.
struct BinRange {
  int first = 0;
  int count = 0;
};

BinRange UsedBins(const MfccFrontEnd& front_end) {
  const int channels = front_end.settings().mel_channels;
  const auto used = [&](int bin) {
    for (const float weight : front_end.mel().subspan(size_t(bin) * channels, channels)) {
      if (weight != 0) return true;
    }
    return false;
  };
  int first = 0;
  int last = front_end.bins() - 1;
  while (first < last && !used(first)) ++first;
  while (last > first && !used(last)) --last;
  return {first, last - first + 1};
}

// The windowed transform as filters [2 * bins, 1, window]: first all real parts, then the imaginary
// ones.
//   filter_k[n] = hann[n] · cos(2πkn / F),  filter_{bins+k}[n] = −hann[n] · sin(2πkn / F)
std::vector<float> FourierFilters(const MfccFrontEnd& front_end, const BinRange& bins) {
  const std::span<const float> hann = front_end.window();
  const int64_t length = front_end.fft_length();
  std::vector<float> filters(2 * size_t(bins.count) * hann.size());
  for (int k = 0; k < bins.count; ++k) {
    float* real = &filters[size_t(k) * hann.size()];
    float* imaginary = &filters[size_t(bins.count + k) * hann.size()];
    for (size_t n = 0; n < hann.size(); ++n) {
      const auto turn = static_cast<double>((bins.first + k) * static_cast<int64_t>(n) % length);
      const double angle = 2 * std::numbers::pi * turn / static_cast<double>(length);
      real[n] = static_cast<float>(hann[n] * std::cos(angle));
      imaginary[n] = static_cast<float>(-hann[n] * std::sin(angle));
    }
  }
  return filters;
}

}  // namespace

std::string AddMfccNodes(const MfccFrontEnd& front_end, const std::string& pcm, OnnxBuilder& onnx) {
  constexpr int64_t kBatch = OnnxBuilder::kBatch;
  const FrontEndSettings& settings = front_end.settings();
  const int64_t frames = front_end.frames();
  const int64_t channels = settings.mel_channels;
  const int64_t coefficients = settings.coefficients;
  const BinRange bins = UsedBins(front_end);

  const std::string filters = onnx.AddConstant(
      "front_end/fourier", {2 * bins.count, 1, settings.window}, FourierFilters(front_end, bins));
  const std::string mel_weights = onnx.AddConstant(
      "front_end/mel_weights", {bins.count, channels},
      front_end.mel().subspan(size_t(bins.first) * channels, size_t(bins.count) * channels));
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
  x = onnx.AddReshape("front_end/complex", x, {kBatch, 2, bins.count, frames});
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
