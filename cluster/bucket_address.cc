#include "cluster/bucket_address.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "configs/scalar.h"

namespace muster::cluster {

bool IsAddress(std::string_view text) { return text.find("://") != std::string_view::npos; }

absl::Status CheckAddress(std::string_view address) {
  const bool is_s3 = address.starts_with("s3://");
  const auto wrong = [&](const char* what) {
    return absl::InvalidArgumentError(fmt::format("{} {}", Quoted(std::string(address)), what));
  };
  if (!is_s3 && !address.starts_with("gs://")) return wrong("is no place that launch can reach");
  const bool plain = std::ranges::all_of(address, [](unsigned char c) {
    return std::isalnum(c) ||
           std::string_view("-_./:=+@~,").find(static_cast<char>(c)) != std::string_view::npos;
  });
  if (!plain) return wrong("has characters that do not belong into an address");
  std::string_view path = address.substr(5);  // behind s3:// or gs://
  while (path.ends_with('/')) path.remove_suffix(1);
  const size_t slash = path.find('/');
  if (slash == std::string_view::npos || slash == 0) return wrong("names no bucket and path in it");
  if (fmt::format("{}/", path).find("//") != std::string::npos ||
      fmt::format("/{}/", path).find("/../") != std::string::npos ||
      fmt::format("/{}/", path).find("/./") != std::string::npos) {
    return wrong("has a part that is empty, \".\" or \"..\"");
  }
  return absl::OkStatus();
}

std::string_view PlainAddress(std::string_view address) {
  return address.substr(0, address.find_last_not_of('/') + 1);
}

}  // namespace muster::cluster
