#include "kernels/codec.h"

#include <absl/strings/str_join.h>
#include <fmt/format.h>

#include <algorithm>

#include "kernels/codecs/codecs.h"
#include "kernels/optimizer_math.h"
#include "telemetry/check.h"

namespace muster {
namespace {

struct Entry {
  const char* name;
  bool has_fraction;
  CodecPtr (*make)(double fraction);
};

constexpr Entry kTable[] = {
    {"none", false, [](double) { return CodecPtr(); }},
    {"fp16", false, [](double) { return MakeFp16(); }},
    {"bf16", false, [](double) { return MakeBf16(); }},
    {"int8", false, [](double) { return MakeInt8(); }},
    {"1bit", false, [](double) { return MakeOneBit(); }},
    {"topk", true, MakeTopK},
};

}  // namespace

void Codec::Encode(std::span<const float> gradient, std::span<float> residual,
                   std::span<std::byte> out) const {
  CHECK_EQ(residual.size(), has_residual() ? gradient.size() : 0);
  CHECK_EQ(out.size(), EncodedSize(static_cast<int64_t>(gradient.size())));
  EncodeArray(gradient, residual.data(), out.data());
}

absl::Status Codec::Check(std::span<const std::byte> encoded, int64_t n) const {
  if (encoded.size() != EncodedSize(n)) {
    return absl::InvalidArgumentError(fmt::format("{} bytes are no {} encoding of {} elements: {}",
                                                  encoded.size(), name(), n, EncodedSize(n)));
  }
  return CheckContent(encoded.data(), n);
}

void Codec::Decode(std::span<const std::byte> encoded, int64_t n, int64_t begin,
                   std::span<float> out) const {
  CHECK_EQ(encoded.size(), EncodedSize(n));
  CHECK_EQ(begin % kQuantum, 0);
  CHECK_LE(begin + static_cast<int64_t>(out.size()), n);
  DecodeRange(encoded.data(), n, begin, out);
}

absl::StatusOr<CodecPtr> MakeCodec(const std::string& name, double fraction) {
  const auto entry = std::ranges::find(kTable, name, &Entry::name);
  if (entry == std::end(kTable)) {
    return absl::InvalidArgumentError(fmt::format("unknown codec '{}'; write one of {}", name,
                                                  absl::StrJoin(CodecNames(), ", ")));
  }
  if (fraction != 0 && !entry->has_fraction) {
    return absl::InvalidArgumentError(
        fmt::format("codec '{}' sends every element: it has no fraction", name));
  }
  if (!(fraction >= 0 && fraction <= 1)) {
    return absl::InvalidArgumentError(
        fmt::format("fraction is {}; it must be above 0, and at most 1", fraction));
  }
  return entry->make(fraction == 0 ? kTopKFraction : fraction);
}

std::vector<std::string> CodecNames() {
  std::vector<std::string> names;
  for (const Entry& entry : kTable) names.emplace_back(entry.name);
  return names;
}

}  // namespace muster
