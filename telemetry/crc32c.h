// CRC-32C (Castagnoli), the checksum of TFRecord files. Free functions, thread-safe.
#pragma once

#include <cstdint>
#include <string_view>

namespace muster {

// Of `bytes`; "123456789" gives 0xE3069283.
uint32_t Crc32c(std::string_view bytes);

// As TFRecord stores it: rotated right by 15 bits plus a constant, so that a checksum over data
// with embedded checksums stays good.
uint32_t MaskCrc32c(uint32_t crc);

}  // namespace muster
