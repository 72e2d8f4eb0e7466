// The codecs' factories, one per file of this folder; kernels/codec.cc tables them.
//
// Pure functions: thread-safe.
#pragma once

#include <memory>

#include "kernels/codec.h"

namespace muster {

using CodecPtr = std::shared_ptr<const Codec>;

CodecPtr MakeFp16();
CodecPtr MakeBf16();
CodecPtr MakeInt8();
CodecPtr MakeOneBit();
// PRECONDITION: 0 < fraction <= 1.
CodecPtr MakeTopK(double fraction);

}  // namespace muster
