#include "worker/modules/speech_commands/split.h"

#include <openssl/sha.h>

#include <array>
#include <cstdint>

namespace muster::worker {

std::string_view Speaker(std::string_view file_name) {
  return file_name.substr(0, file_name.find("_nohash_"));
}

Split WhichSplit(std::string_view file_name, double validation_percentage,
                 double testing_percentage) {
  constexpr uint32_t kMaxPerClass = (1U << 27) - 1;
  const std::string_view speaker = Speaker(file_name);
  std::array<unsigned char, SHA_DIGEST_LENGTH> digest{};
  SHA1(reinterpret_cast<const unsigned char*>(speaker.data()), speaker.size(), digest.data());
  // The digest is a big-endian number: its remainder by 2²⁷ lies in the last four bytes.
  uint32_t low = 0;
  for (size_t i = digest.size() - 4; i < digest.size(); ++i) {
    low = low << 8 | digest[i];
  }
  const double percentage = (low & kMaxPerClass) * (100.0 / kMaxPerClass);
  if (percentage < validation_percentage) {
    return Split::kValidation;
  }
  return percentage < testing_percentage + validation_percentage ? Split::kTesting
                                                                 : Split::kTraining;
}

}  // namespace muster::worker
