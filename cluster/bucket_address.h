// Addresses of folders in object stores: s3://BUCKET/PATH, gs://BUCKET/PATH. Pure: thread-safe.
#pragma once

#include <string_view>

#include "telemetry/status.h"

namespace muster::cluster {

// Whether `text` is meant as an address in some store, ours or not: it has "://".
bool IsAddress(std::string_view text);

// Fails in one line for an address that is none of the above, or has parts that no store's path
// should have.
absl::Status CheckAddress(std::string_view address);

// The address without a '/' at its end.
std::string_view PlainAddress(std::string_view address);

}  // namespace muster::cluster
