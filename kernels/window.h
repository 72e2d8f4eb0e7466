// Window: how a convolution's kernel or a pool's window walks over an image, with TensorFlow's
// paddings.
//
// Value type, thread-compatible. Sizes in pixels.
//
//   VALID: out = ceil((in - kernel + 1) / stride), nothing is padded
//   SAME:  out = ceil(in / stride), padding max((out - 1) * stride + kernel - in, 0),
//          the odd pixel at the end
#pragma once

#include <algorithm>
#include <cstdint>

namespace muster {

enum class Padding { kValid, kSame };

struct Extent {
  int64_t h = 0;
  int64_t w = 0;
  bool operator==(const Extent&) const = default;
};

struct Window {
  Extent in;
  Extent kernel;
  Extent stride;
  Extent
      pad;  // before the first row and column; what is padded after the last follows from the rest
  Extent out;

  // A window that fits nowhere (VALID, kernel larger than the image) has out <= 0.
  static Window Make(Extent in, Extent kernel, Extent stride, Padding padding) {
    const auto out = [padding](int64_t i, int64_t k, int64_t s) {
      return padding == Padding::kSame ? (i + s - 1) / s : (i - k + s) / s;
    };
    const auto pad = [padding](int64_t i, int64_t k, int64_t s, int64_t o) {
      return padding == Padding::kSame ? std::max<int64_t>((o - 1) * s + k - i, 0) / 2 : 0;
    };
    Window window{in, kernel, stride, {}, {}};
    window.out = {out(in.h, kernel.h, stride.h), out(in.w, kernel.w, stride.w)};
    window.pad = {pad(in.h, kernel.h, stride.h, window.out.h),
                  pad(in.w, kernel.w, stride.w, window.out.w)};
    return window;
  }
};

}  // namespace muster
