// CopyPastCache: memcpy for destinations that are larger than the caches and not read soon: lines
// are written whole without being read first, and push nothing out.
//
// Thread-safe; what it has written is seen as after any store once it returns.
#pragma once

#include <cstddef>

namespace muster {

// PRECONDITION: the ranges do not overlap. Any alignment.
void CopyPastCache(std::byte* dst, const std::byte* src, size_t bytes);

}  // namespace muster
