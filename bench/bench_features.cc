// How many clips a core turns from WAV files into MFCC features in a second, against what training
// the `conv` model could consume.
//
// The roof is measured in the same run: `conv` costs 1.12 GFLOP a sample, so no implementation
// trains more than sgemm(1024) FLOP/s ÷ 1.12 G samples a second on the same core. The number asked
// for is at least 20 times what is consumed.
//
// Where a GPU makes the features, the host writes a record for each clip. How many a core writes is
// measured against what the whole job (18,000 batches of 100) asks for to last 30 seconds.
#include <dnnl.h>
#include <fmt/format.h>

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "bench/speech_clips.h"
#include "bench/timing.h"
#include "kernels/device.h"

// Of the OpenMP run time; its header is not there for every compiler.
extern "C" void omp_set_num_threads(int threads);

namespace muster::worker {
namespace {

using bench::Median;

constexpr double kConvFlops = 1.12e9;  // of one training sample
constexpr double kWanted = 20;
constexpr int kFiles = 400;
constexpr double kJobClips = 18000.0 * 100 / 30;  // a second

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

void Run(bool smoke) {
  omp_set_num_threads(1);
  const bench::SpeechClips clips(kFiles);
  const auto log = Log::Discard();
  const auto data = clips.Training(*log);
  std::vector<float> input(data->input_size());
  int32_t label;
  const auto device = MakeCpuDevice(1);
  std::vector<double> clip_rates, sgemm_rates, keep_rates, record_rates;
  int64_t draw = 0;
  for (int round = 0; round < (smoke ? 2 : 15); ++round) {
    const double begin = Now();
    for (int i = 0; i < kFiles; ++i) {
      CHECK(data->Get(i, draw++, input, &label).ok());
    }
    clip_rates.push_back(kFiles / (Now() - begin));
    sgemm_rates.push_back(SgemmRate());
    double now = Now();
    const auto front_end = data->MakeDeviceFrontEnd(*device, 1);
    CHECK(front_end.ok());
    keep_rates.push_back(kFiles / (Now() - now));
    std::vector<std::byte> record(static_cast<size_t>((*front_end)->record_bytes()));
    constexpr int kRecords = 100 * kFiles;
    now = Now();
    for (int i = 0; i < kRecords; ++i) {
      CHECK((*front_end)->GetRecord(i % kFiles, draw++, record, &label).ok());
    }
    record_rates.push_back(kRecords / (Now() - now));
  }
  const double clip_rate = Median(clip_rates), sgemm_rate = Median(sgemm_rates);
  const double roof = sgemm_rate / kConvFlops;
  fmt::print("WAV -> MFCC, with shift and noise   {:8.0f} clips/s per core\n", clip_rate);
  fmt::print("sgemm(1024)                         {:8.1f} GFLOP/s per core\n", sgemm_rate / 1e9);
  fmt::print("conv can consume at most            {:8.1f} samples/s per core\n", roof);
  fmt::print("ratio                               {:8.1f} (wanted: {:.0f})\n", clip_rate / roof,
             kWanted);
  fmt::print("clips put into a device's memory    {:8.0f} clips/s per core\n", Median(keep_rates));
  fmt::print("records of them for a GPU           {:8.0f} clips/s per core\n",
             Median(record_rates));
  fmt::print("ratio to the job's {:8.0f} clips/s  {:8.1f}\n", kJobClips,
             Median(record_rates) / kJobClips);
}

}  // namespace
}  // namespace muster::worker

int main(int argc, char** argv) {
  muster::worker::Run(argc > 1 && std::strcmp(argv[1], "--smoke") == 0);
  return 0;
}
