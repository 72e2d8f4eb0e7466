// How many clips a core turns from WAV files into MFCC features in a second, against what training
// the `conv` model could consume.
//
// The roof is measured in the same run: `conv` costs 1.12 GFLOP a sample, so no implementation
// trains more than sgemm(1024) FLOP/s ÷ 1.12 G samples a second on the same core. The number asked
// for is at least 20 times what is consumed.
#include <dnnl.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <vector>

#include "bench/timing.h"
#include "kernels/philox.h"
#include "tests/harness/temporary_folder.h"
#include "worker/modules/speech_commands/dataset.h"
#include "worker/modules/speech_commands/wav.h"

// Of the OpenMP run time; its header is not there for every compiler.
extern "C" void omp_set_num_threads(int threads);

namespace muster::worker {
namespace {

using bench::Median;

constexpr double kConvFlops = 1.12e9;  // of one training sample
constexpr double kWanted = 20;
constexpr int kFiles = 400;

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// FLOP/s of one multiplication of 1024 × 1024 matrices.
double SgemmRate() {
  constexpr int kN = 1024;
  static const std::vector<float> a(kN * kN, 0.5F), b(kN * kN, 0.25F);
  std::vector<float> c(kN * kN);
  const double begin = Now();
  dnnl_sgemm('N', 'N', kN, kN, kN, 1, a.data(), kN, b.data(), kN, 0, c.data(), kN);
  return 2.0 * kN * kN * kN / (Now() - begin);
}

// A set of one word and one noise, in a folder of its own that goes with the object.
class Clips {
 public:
  Clips() {
    std::filesystem::create_directories(dir_ / "yes");
    std::filesystem::create_directories(dir_ / kNoiseFolder);
    std::vector<int16_t> samples(16000);
    for (int i = 0; i < kFiles; ++i) {
      for (size_t n = 0; n < samples.size(); ++n) {
        samples[n] = static_cast<int16_t>(Philox({}, n, i)[0] >> 18);
      }
      Check(WriteWav(dir_ / fmt::format("yes/{:08x}_nohash_0.wav", i), 16000, samples));
    }
    samples.resize(160000, 99);
    Check(WriteWav(dir_ / kNoiseFolder / "noise.wav", 16000, samples));
  }

  static void Check(const absl::Status& status) {
    if (!status.ok()) {
      fmt::print(stderr, "{}\n", std::string(status.message()));
      std::exit(1);
    }
  }

  std::unique_ptr<SpeechDataset> Training(Log& log) const {
    auto corpus = Corpus::Scan({.data_dir = dir_,
                                .wanted_words = {"yes"},
                                .validation_percentage = 0,
                                .testing_percentage = 0});
    Check(corpus.status());
    auto noise = Noise::Load(dir_ / kNoiseFolder, 16000, 16000);
    Check(noise.status());
    auto bad = std::make_shared<BadClips>(dir_, corpus->num_files());
    return std::make_unique<SpeechDataset>(
        dir_, Split::kTraining, 1, AugmentSettings{},
        std::make_shared<const Corpus>(*std::move(corpus)),
        std::make_shared<const Noise>(*std::move(noise)),
        std::make_shared<const MfccFrontEnd>(*MfccFrontEnd::Make({})), std::move(bad), log);
  }

 private:
  const harness::TemporaryFolder temporary_;
  const std::filesystem::path dir_ = temporary_.path();
};

void Run(bool smoke) {
  omp_set_num_threads(1);
  const Clips clips;
  const auto log = Log::Discard();
  const auto data = clips.Training(*log);
  std::vector<float> input(data->input_size());
  int32_t label;
  std::vector<double> clip_rates, sgemm_rates;
  int64_t draw = 0;
  for (int round = 0; round < (smoke ? 2 : 15); ++round) {
    const double begin = Now();
    for (int i = 0; i < kFiles; ++i) {
      Clips::Check(data->Get(i, draw++, input, &label));
    }
    clip_rates.push_back(kFiles / (Now() - begin));
    sgemm_rates.push_back(SgemmRate());
  }
  const double clip_rate = Median(clip_rates), sgemm_rate = Median(sgemm_rates);
  const double roof = sgemm_rate / kConvFlops;
  fmt::print("WAV -> MFCC, with shift and noise   {:8.0f} clips/s per core\n", clip_rate);
  fmt::print("sgemm(1024)                         {:8.1f} GFLOP/s per core\n", sgemm_rate / 1e9);
  fmt::print("conv can consume at most            {:8.1f} samples/s per core\n", roof);
  fmt::print("ratio                               {:8.1f} (wanted: {:.0f})\n", clip_rate / roof,
             kWanted);
}

}  // namespace
}  // namespace muster::worker

int main(int argc, char** argv) {
  muster::worker::Run(argc > 1 && std::strcmp(argv[1], "--smoke") == 0);
  return 0;
}
