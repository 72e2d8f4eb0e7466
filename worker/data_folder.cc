#include "worker/data_folder.h"

#include <fmt/format.h>

#include <cctype>
#include <cstdlib>
#include <filesystem>

#include "telemetry/crc32c.h"

namespace muster::worker {

std::string NameWhereBrought(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  std::string name(path.substr(path.rfind('/') + 1).substr(0, 64));
  for (char& c : name) {
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '-') c = '_';
  }
  return fmt::format("{}-{:08x}", name, Crc32c(path));
}

std::string DataFolder(const std::string& value, const std::string& root) {
  std::error_code error;
  if (root.empty() || std::filesystem::is_directory(value, error)) return value;
  std::string folder = fmt::format("{}/{}", root, NameWhereBrought(value));
  return std::filesystem::is_directory(folder, error) ? folder : value;
}

std::string DataFolder(const std::string& value) {
  const char* root = std::getenv(kDataVariable);
  return DataFolder(value, root == nullptr ? "" : root);
}

}  // namespace muster::worker
