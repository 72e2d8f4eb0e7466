// topk: of each segment of kQuantum elements (64 KiB) the k largest by magnitude, as they are.
//
//   k = ceil(fraction * elements of the segment)          so at least 1
//   sent: the k elements with the largest |x|, those with the lower index where |x| is equal
//   decoded = x where sent, 0 elsewhere
//   residual = 0 where sent, x elsewhere                  exact
//
// Encoding: the places within their segments, ascending, two bytes each, of all segments; then the
// values in the same order, four bytes each.
//
// NaN counts as larger than infinity, and that as larger than any number, so both are sent. The
// k-th largest magnitude is found by bisection over its 31 bits, counting a segment that stays in
// the cache: no scratch memory, and hardly more passes than are needed to tell k from k + 1 apart.
//
// Sources: Aji and Heafield, "Sparse Communication for Distributed Gradient Descent", 2017; Lin et
// al., "Deep Gradient Compression", 2018. By segments rather than tensors, so that the result does
// not depend on where tensors are cut, and the search is cheap.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/codecs/topk.cc"
#include <hwy/foreach_target.h>
// foreach_target.h comes before what it includes again for each target.
#include <fmt/format.h>
#include <hwy/highway.h>

#include "kernels/codecs/codecs.h"
#include "kernels/optimizer_math.h"

#ifndef MUSTER_KERNELS_CODECS_TOPK_ONCE_
#define MUSTER_KERNELS_CODECS_TOPK_ONCE_
namespace muster::topk {
constexpr int64_t kPlaceBytes = 2, kValueBytes = 4;
static_assert(kQuantum <= 1 << 16);

// Where the next element that is sent goes.
struct Output {
  std::byte* places;
  std::byte* values;

  void Add(int64_t place, float value) {
    const auto two_bytes = static_cast<uint16_t>(place);
    std::memcpy(places, &two_bytes, kPlaceBytes);
    std::memcpy(values, &value, kValueBytes);
    places += kPlaceBytes;
    values += kValueBytes;
  }
};
}  // namespace muster::topk
#endif

HWY_BEFORE_NAMESPACE();
namespace muster::topk::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, 16>;
using DI = hn::RebindToSigned<D>;
using VI = hn::Vec<DI>;
constexpr int64_t kLanes = hn::MaxLanes(D());

HWY_INLINE VI Magnitude(hn::Vec<D> x) {
  const DI di;
  return hn::And(hn::BitCast(di, x), hn::Set(di, 0x7fffffff));
}
HWY_INLINE int32_t Magnitude(float x) { return std::bit_cast<int32_t>(x) & 0x7fffffff; }

// x[i] += g[i] over n elements; the largest magnitude of the sums.
HWY_INLINE int32_t AddAndMax(const float* g, float* x, int64_t n) {
  const D d;
  const DI di;
  VI max = hn::Zero(di);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const auto sum = hn::Add(hn::LoadU(d, g + i), hn::LoadU(d, x + i));
    hn::StoreU(sum, d, x + i);
    max = hn::Max(max, Magnitude(sum));
  }
  int32_t largest = hn::GetLane(hn::MaxOfLanes(di, max));
  for (; i < n; ++i) {
    x[i] = g[i] + x[i];
    largest = std::max(largest, Magnitude(x[i]));
  }
  return largest;
}

// How many of the n magnitudes are `least` or more.
HWY_INLINE int64_t CountFrom(const float* x, int64_t n, int32_t least) {
  const D d;
  const DI di;
  const VI below = hn::Set(di, least - 1);
  VI counts[4];  // minus the counts; four, so that additions need not wait for each other
  for (VI& count : counts) count = hn::Zero(di);
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    for (int64_t j = 0; j < 4; ++j) {
      const VI magnitude = Magnitude(hn::LoadU(d, x + i + j * kLanes));
      counts[j] = hn::Add(counts[j], hn::VecFromMask(di, hn::Gt(magnitude, below)));
    }
  }
  const VI count = hn::Add(hn::Add(counts[0], counts[1]), hn::Add(counts[2], counts[3]));
  int64_t total = -int64_t{hn::GetLane(hn::SumOfLanes(di, count))};
  for (; i < n; ++i) total += Magnitude(x[i]) >= least ? 1 : 0;
  return total;
}

// Sends, and sets to 0, the elements whose magnitude is above `level`, and the first `ties` of
// those at it.
HWY_INLINE void Send(float* x, int64_t n, int32_t level, int64_t ties, Output& out) {
  const D d;
  const DI di;
  const VI below = hn::Set(di, level - 1);
  const auto one = [&](int64_t i) {
    const int32_t magnitude = Magnitude(x[i]);
    if (magnitude < level || (magnitude == level && ties-- <= 0)) return;
    out.Add(i, x[i]);
    x[i] = 0;
  };
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const auto hits = hn::Gt(Magnitude(hn::LoadU(d, x + i)), below);
    if (hn::AllFalse(di, hits)) continue;
    for (int64_t j = 0; j < kLanes; ++j) one(i + j);
  }
  for (; i < n; ++i) one(i);
}

// One segment, of which k elements are sent.
void EncodeSegment(const float* gradient, float* residual, int64_t n, int64_t k, Output& out) {
  // `low` magnitudes or more have at least k elements, `high` or more fewer than k.
  int64_t low = 0, high = int64_t{AddAndMax(gradient, residual, n)} + 1;
  int64_t from_low = n, from_high = 0;
  while (high - low > 1 && from_low > k) {
    const int64_t middle = low + (high - low) / 2;
    const int64_t count = CountFrom(residual, n, static_cast<int32_t>(middle));
    (count >= k ? low : high) = middle;
    (count >= k ? from_low : from_high) = count;
  }
  // Either k elements have `low` or more, or those at `low` itself are more than are left to send.
  const int64_t ties = from_low == k ? k : k - from_high;
  Send(residual, n, static_cast<int32_t>(low), ties, out);
}

}  // namespace muster::topk::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace muster {
namespace topk {

HWY_EXPORT(EncodeSegment);

class TopK final : public Codec {
 public:
  explicit TopK(double fraction) : fraction_(fraction), per_segment_(Sent(kQuantum)) {}
  const char* name() const override { return "topk"; }
  bool has_residual() const override { return true; }
  double fraction() const override { return fraction_; }
  size_t EncodedSize(int64_t n) const override {
    return static_cast<size_t>(Total(n) * (kPlaceBytes + kValueBytes));
  }

 private:
  // Of a segment of n elements.
  int64_t Sent(int64_t n) const {
    return std::min(n, static_cast<int64_t>(std::ceil(fraction_ * static_cast<double>(n))));
  }
  // Of n elements.
  int64_t Total(int64_t n) const { return n / kQuantum * per_segment_ + Sent(n % kQuantum); }

  void EncodeArray(std::span<const float> gradient, float* residual,
                   std::byte* out) const override {
    const int64_t n = std::ssize(gradient);
    Output output = {out, out + Total(n) * kPlaceBytes};
    for (int64_t begin = 0; begin < n; begin += kQuantum) {
      const int64_t size = std::min(kQuantum, n - begin);
      HWY_DYNAMIC_DISPATCH(EncodeSegment)
      (gradient.data() + begin, residual + begin, size, Sent(size), output);
    }
  }

  static int64_t PlaceAt(const std::byte* encoded, int64_t i) {
    uint16_t place;
    std::memcpy(&place, encoded + i * kPlaceBytes, kPlaceBytes);
    return place;
  }

  absl::Status CheckContent(const std::byte* encoded, int64_t n) const override {
    for (int64_t begin = 0, first = 0; begin < n; begin += kQuantum, first += per_segment_) {
      const int64_t size = std::min(kQuantum, n - begin);
      int64_t least = 0;
      for (int64_t i = first; i < first + Sent(size); ++i) {
        const int64_t place = PlaceAt(encoded, i);
        if (place < least || place >= size) {
          return absl::InvalidArgumentError(
              fmt::format("topk: place {} of the segment at {} is not between {} and {}", place,
                          begin, least, size));
        }
        least = place + 1;
      }
    }
    return absl::OkStatus();
  }

  // Places are looked at once more: an encoding in memory that is shared may have changed since
  // Check.
  void DecodeRange(const std::byte* encoded, int64_t n, int64_t begin,
                   std::span<float> out) const override {
    const std::byte* values = encoded + Total(n) * kPlaceBytes;
    std::fill(out.begin(), out.end(), 0.0f);
    for (int64_t at = 0; at < std::ssize(out); at += kQuantum) {
      const int64_t first = (begin + at) / kQuantum * per_segment_;
      const int64_t sent = Sent(std::min(kQuantum, n - begin - at));
      const auto segment = out.subspan(static_cast<size_t>(at));
      for (int64_t i = first; i < first + sent; ++i) {
        const auto place = static_cast<size_t>(PlaceAt(encoded, i));
        if (place >= std::min(segment.size(), size_t{kQuantum})) continue;
        std::memcpy(&segment[place], values + i * kValueBytes, kValueBytes);
      }
    }
  }

  const double fraction_;
  const int64_t per_segment_;  // sent of each but the last
};

}  // namespace topk

CodecPtr MakeTopK(double fraction) { return std::make_shared<const topk::TopK>(fraction); }

}  // namespace muster
#endif  // HWY_ONCE
