// bench_codecs: what encoding gradients for their way and decoding them costs, on one thread.
//
//   bench_codecs [--rows NAME,...] [--mib N] [--rounds N] [--json FILE] [--smoke]
//
// Slices of 4 MiB, as a worker pushes them: gradient plus residual is encoded, the residual
// updated; then all are checked and decoded as a shard does it, a quantum of 64 KiB at a time into
// memory that stays in the cache, from where it would be added. GB/s of float32 over the sum of
// both times. "to memory" is what decoding into 256 MiB reaches instead.
//
// Roof: what the bytes of gradient, residual and encoding, written and read, would take at the rate
// of STREAM's triad, which takes turns with the codecs; a ratio is the median over the rounds. It
// can pass 1: triad writes an array that it did not read, which the memory must fetch all the same.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <nlohmann/json.hpp>
#include <random>
#include <vector>

#include "bench/array.h"
#include "bench/timing.h"
#include "kernels/codec.h"
#include "kernels/optimizer_math.h"
#include "telemetry/check.h"
#include "telemetry/file.h"

namespace muster {
namespace {

using bench::Array;
using bench::Median;
using bench::Seconds;

constexpr int64_t kSlice = 1 << 20;  // elements
constexpr struct {
  const char* name;
  const char* codec;
  double asked;  // GB/s of float32
} kRows[] = {{"codec_fp16", "fp16", 5},
             {"codec_bf16", "bf16", 5},
             {"codec_int8", "int8", 3},
             {"codec_1bit", "1bit", 3},
             {"codec_topk", "topk", 1.5}};

class Bench {
 public:
  explicit Bench(int64_t n) : n_(n), gradient_(n, 0), residual_(n, 0), result_(n, 0) {
    std::mt19937 rng(1);
    std::normal_distribution<float> normal(0, 0.01f);
    for (float& g : gradient_.span()) g = normal(rng);
  }

  struct Times {
    double triad = 0, encode = 0, decode = 0, to_memory = 0;  // seconds
  };
  Times Round(const Codec& codec, std::vector<std::byte>& encoded) {
    Times times;
    times.triad =
        Seconds([&] { bench::Triad(result_.span(), gradient_.span(), residual_.span(), 0.5f); });
    const size_t size = codec.EncodedSize(kSlice);
    times.encode = Seconds([&] {
      for (int64_t i = 0; i < n_ / kSlice; ++i) {
        codec.Encode(Slice(gradient_, i),
                     codec.has_residual() ? Slice(residual_, i) : std::span<float>(),
                     std::span(encoded).subspan(static_cast<size_t>(i) * size, size));
      }
    });
    const auto decode = [&](bool to_memory) {
      for (int64_t i = 0; i < n_ / kSlice; ++i) {
        const auto slice = std::span(encoded).subspan(static_cast<size_t>(i) * size, size);
        CHECK(codec.Check(slice, kSlice).ok());
        const std::span<float> out = Slice(result_, to_memory ? i : 0);
        for (int64_t begin = 0; begin < kSlice; begin += kQuantum) {
          codec.Decode(slice, kSlice, begin,
                       out.subspan(static_cast<size_t>(to_memory ? begin : 0), size_t{kQuantum}));
        }
      }
    };
    times.decode = Seconds([&] { decode(/*to_memory=*/false); });
    times.to_memory = Seconds([&] { decode(/*to_memory=*/true); });
    return times;
  }
  void Clear() { std::ranges::fill(residual_.span(), 0.0f); }

 private:
  static std::span<float> Slice(const Array& array, int64_t i) {
    return array.span().subspan(static_cast<size_t>(i * kSlice), static_cast<size_t>(kSlice));
  }

  const int64_t n_;
  const Array gradient_, residual_, result_;
};

int Run(int argc, char** argv) {
  CLI::App app("GB/s of float32 through the gradient codecs, on one thread");
  std::vector<std::string> rows;
  int64_t mib = 256;
  int rounds = 9;
  std::string json;
  bool smoke = false;
  app.add_option("--rows", rows, "only these")->delimiter(',');
  app.add_option("--mib", mib, "of gradients")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--rounds", rounds, "of triad, encoding and decoding")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--json", json, "a file for the figures");
  app.add_flag("--smoke", smoke, "one small round, to see that it runs");
  CLI11_PARSE(app, argc, argv);
  if (smoke) {
    mib = 8;
    rounds = 1;
  }
  const int64_t n = (mib << 20) / static_cast<int64_t>(sizeof(float)) / kSlice * kSlice;
  Bench bench(n);
  const double gb = static_cast<double>(n) * sizeof(float) / 1e9;
  nlohmann::json all = nlohmann::json::array();
  fmt::print("{} MiB of gradients, median of {} rounds; GB/s of float32\n", mib, rounds);
  fmt::print("{:<12} {:>6} {:>8} {:>8} {:>8}  asked   (encode, decode, to memory)\n", "row",
             "bytes", "GB/s", "roof", "ratio");
  for (const auto& row : kRows) {
    if (!rows.empty() && std::ranges::count(rows, row.name) == 0) continue;
    const auto codec = *MakeCodec(row.codec);
    std::vector<std::byte> encoded(codec->EncodedSize(kSlice) * static_cast<size_t>(n / kSlice));
    const double bytes_each = static_cast<double>(encoded.size()) / static_cast<double>(n);
    const double moved = (codec->has_residual() ? 12 : 4) + 2 * bytes_each;
    bench.Clear();
    bench.Round(*codec, encoded);  // first touch of all memory
    std::vector<double> values, roofs, ratios, encodes, decodes, to_memory;
    for (int round = 0; round < rounds; ++round) {
      const Bench::Times times = bench.Round(*codec, encoded);
      values.push_back(gb / (times.encode + times.decode));
      roofs.push_back(gb / times.triad * 12 / moved);
      ratios.push_back(values.back() / roofs.back());
      encodes.push_back(gb / times.encode);
      decodes.push_back(gb / times.decode);
      to_memory.push_back(gb / times.to_memory);
    }
    fmt::print("{:<12} {:>6.2f} {:>8.2f} {:>8.2f} {:>8.2f}  >= {:<4} ({:.2f}, {:.2f}, {:.2f})\n",
               row.name, bytes_each, Median(values), Median(roofs), Median(ratios), row.asked,
               Median(encodes), Median(decodes), Median(to_memory));
    all.push_back({{"name", row.name},
                   {"value", Median(values)},
                   {"unit", "GB/s"},
                   {"roof", Median(roofs)},
                   {"ratio", Median(ratios)},
                   {"asked", row.asked},
                   {"asked_of_value", true}});
  }
  if (json.empty()) return 0;
  const absl::Status status = WriteFileAtomically(json, all.dump(1) + "\n");
  if (!status.ok()) fmt::print(stderr, "bench_codecs: {}\n", std::string(status.message()));
  return status.ok() ? 0 : 1;
}

}  // namespace
}  // namespace muster

int main(int argc, char** argv) { return muster::Run(argc, argv); }
