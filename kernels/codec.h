// Codec: the form in which a gradient travels, and what of it is kept back for the next one.
//
//   input    = gradient + residual
//   encoding = Encode(input), of EncodedSize bytes whatever the values
//   residual = input - Decode(encoding)
//
// all in one pass over memory. A codec without a residual (fp16, bf16) rounds each element and
// forgets the rest; it has input = gradient. What every codec keeps to:
//
//  1. The same input gives the same bytes, decoded values and residual on every instruction set.
//  2. An array that is cut at multiples of kQuantum elements (kernels/optimizer_math.h) decodes to
//     the same values, and leaves the same residual, wherever it is cut.
//  3. decoded + residual = input, exactly, for finite inputs of the codecs with a residual; 1bit
//     says in its file which inputs it must round first.
//  4. An input that is not finite gives an encoding that Check refuses, or that decodes to a value
//     that is not finite. The residual is then worthless.
//  5. Check and Decode take any bytes.
//
// Immutable: thread-safe. Memory is the caller's, sizes of arrays are in elements (float32), of
// encodings in bytes; an encoding may lie at any address. A new codec is one file
// kernels/codecs/<name>.cc with its formula and source on top, one line in kernels/codec.cc, and
// one in its test.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "telemetry/status.h"

namespace muster {

class Codec {
 public:
  virtual ~Codec() = default;
  virtual const char* name() const = 0;
  virtual bool has_residual() const = 0;
  // What MakeCodec was told, or its default; 0 of a codec that has none.
  virtual double fraction() const { return 0; }
  // Bytes of the encoding of n elements.
  virtual size_t EncodedSize(int64_t n) const = 0;

  // Encodes gradient + residual into `out`, and updates the residual. PRECONDITION: `residual` is
  // as long as `gradient`, or empty without has_residual; `out` has EncodedSize bytes; nothing
  // overlaps.
  void Encode(std::span<const float> gradient, std::span<float> residual,
              std::span<std::byte> out) const;
  // InvalidArgument unless `encoded` is an encoding of n elements: its size, its places and its
  // scales. Whether the decoded values are finite shows where they are added.
  absl::Status Check(std::span<const std::byte> encoded, int64_t n) const;
  // Elements [begin, begin + out.size()) of the n encoded ones. Bytes that Check refuses give some
  // values or other. PRECONDITION: `encoded` has EncodedSize(n) bytes, begin is a multiple of
  // kQuantum, the elements exist.
  void Decode(std::span<const std::byte> encoded, int64_t n, int64_t begin,
              std::span<float> out) const;

 private:
  virtual void EncodeArray(std::span<const float> gradient, float* residual,
                           std::byte* out) const = 0;
  virtual absl::Status CheckContent(const std::byte* encoded, int64_t n) const = 0;
  virtual void DecodeRange(const std::byte* encoded, int64_t n, int64_t begin,
                           std::span<float> out) const = 0;
};

// topk's fraction where none is given.
inline constexpr double kTopKFraction = 0.01;

// `name` is one of CodecNames(); "none" gives null: gradients travel as they are. `fraction` is
// topk's, of the elements that are sent, in (0, 1]; 0 is kTopKFraction. An unknown name fails with
// the valid ones, a fraction out of range, or for another codec, by saying so.
absl::StatusOr<std::shared_ptr<const Codec>> MakeCodec(const std::string& name,
                                                       double fraction = 0);
std::vector<std::string> CodecNames();

}  // namespace muster
