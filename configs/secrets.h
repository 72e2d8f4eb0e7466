// Secrets in job files: what is shaped like a key that somebody could log in with does not belong
// into a file that is copied to every host, shown in reports and kept in job directories.
//
// Pure functions: thread-safe.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

#include "configs/origin.h"

namespace muster {

struct Secret {
  size_t begin = 0;       // in the text
  std::string_view what;  // "an access key of AWS"
};

// The first secret in `text` at or after `from`.
std::optional<Secret> FindSecret(std::string_view text, size_t from = 0);

// A problem for each line of the file `name` that holds one. None repeats what it found.
void CheckSecrets(std::string_view text, const std::string& name, Problems* problems);

// What to do about one, for a problem.
inline constexpr char kSecretAdvice[] =
    "delete it, and make a new key if others have seen the file; launch uses your own logins";

}  // namespace muster
