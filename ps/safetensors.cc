#include "ps/safetensors.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "telemetry/check.h"
#include "telemetry/crc32c.h"
#include "telemetry/file.h"

namespace muster::ps {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMaxHeader =
    64 << 20;  // bytes; a checkpoint part of 100,000 tensors needs 20 MiB
constexpr int64_t kMaxElements = int64_t{1} << 48;  // of a dimension
constexpr int64_t kAlign = 8;                       // the data starts at a multiple of this

std::string_view BytesOf(std::span<const float> data) {
  return {reinterpret_cast<const char*>(data.data()), data.size_bytes()};
}

std::string CrcText(std::span<const float> data) {
  return fmt::format("{:08x}", Crc32c(BytesOf(data)));
}

// The length and the JSON, padded with spaces to the alignment.
std::string MakeHeader(std::span<const TensorView> tensors,
                       std::map<std::string, std::string> metadata) {
  Json header = Json::object();
  int64_t offset = 0;
  for (const TensorView& tensor : tensors) {
    const int64_t end = offset + static_cast<int64_t>(tensor.data.size_bytes());
    header[tensor.name] = {
        {"dtype", "F32"}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
    metadata["crc32c." + tensor.name] = CrcText(tensor.data);
    offset = end;
  }
  header["__metadata__"] = metadata;
  std::string text = header.dump(-1, ' ', false, Json::error_handler_t::replace);
  text.append(static_cast<size_t>((kAlign - static_cast<int64_t>(text.size()) % kAlign) % kAlign),
              ' ');
  const uint64_t length = text.size();
  std::string out(reinterpret_cast<const char*>(&length), sizeof(length));
  return out + text;
}

bool ReadAll(int fd, int64_t offset, char* out, size_t size) {
  while (size > 0) {
    const ssize_t n = pread(fd, out, size, offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    if (n == 0) {  // shorter than it was when it was opened
      errno = EIO;
      return false;
    }
    out += n;
    offset += n;
    size -= static_cast<size_t>(n);
  }
  return true;
}

// A whole number in [0, most]. (Json's own comparison would take 2^64 - 1 for -1.)
bool ReadSize(const Json& json, int64_t most, int64_t& out) {
  if (!json.is_number_unsigned() || json.get<uint64_t>() > static_cast<uint64_t>(most))
    return false;
  out = json.get<int64_t>();
  return true;
}

// What is wrong with a tensor's entry, or an empty text and the tensor filled in.
std::string ParseTensor(const Json& entry, int64_t data_bytes, SafetensorsFile::Tensor& out) {
  if (!entry.is_object()) return "its entry is not an object";
  const auto dtype = entry.find("dtype");
  if (dtype == entry.end() || *dtype != "F32") return "its dtype is not F32";
  const auto shape = entry.find("shape");
  if (shape == entry.end() || !shape->is_array()) return "it has no shape";
  int64_t bytes = sizeof(float);
  for (const Json& dim : *shape) {
    int64_t n = 0;
    if (!ReadSize(dim, kMaxElements, n)) return "its shape is no shape";
    out.shape.push_back(n);
    if (__builtin_mul_overflow(bytes, n, &bytes)) return "its shape is too large";
  }
  out.size = bytes / static_cast<int64_t>(sizeof(float));
  const auto offsets = entry.find("data_offsets");
  int64_t end = 0;
  if (offsets == entry.end() || !offsets->is_array() || offsets->size() != 2 ||
      !ReadSize((*offsets)[0], data_bytes, out.begin_bytes) ||
      !ReadSize((*offsets)[1], data_bytes, end)) {
    return "its offsets do not lie within the file";
  }
  if (end - out.begin_bytes != bytes) return "its offsets do not fit its shape";
  return "";
}

}  // namespace

absl::Status WriteSafetensors(const std::string& path, std::span<const TensorView> tensors,
                              std::map<std::string, std::string> metadata) {
  const std::string header = MakeHeader(tensors, std::move(metadata));
  std::vector<std::string_view> parts = {header};
  for (const TensorView& tensor : tensors) parts.push_back(BytesOf(tensor.data));
  return WriteFileAtomically(path, parts);
}

absl::Status SafetensorsFile::Damaged(const std::string& what) const {
  return absl::DataLossError(fmt::format("{}: {}", path_, what));
}

absl::StatusOr<SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  SafetensorsFile file;
  file.path_ = path;
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, "cannot open " + path);
  file.fd_ = std::shared_ptr<const int>(new int(fd), [](const int* open_fd) {
    close(*open_fd);
    delete open_fd;
  });
  struct stat info {};
  if (fstat(fd, &info) != 0) return ErrnoStatus(errno, "cannot read " + path);
  if (!S_ISREG(info.st_mode)) return file.Damaged("it is not a regular file");
  uint64_t length = 0;
  if (info.st_size < static_cast<int64_t>(sizeof(length))) {
    return file.Damaged(fmt::format("it has {} bytes, too few for a header", info.st_size));
  }
  if (!ReadAll(fd, 0, reinterpret_cast<char*>(&length), sizeof(length))) {
    return ErrnoStatus(errno, "cannot read " + path);
  }
  const int64_t most = std::min<int64_t>(kMaxHeader, info.st_size - int64_t{sizeof(length)});
  if (length > static_cast<uint64_t>(most)) {
    return file.Damaged(
        fmt::format("its header is said to have {} bytes, at most {} are possible; "
                    "it is truncated or no safetensors file",
                    length, most));
  }
  std::string header(length, '\0');
  if (!ReadAll(fd, sizeof(length), header.data(), header.size())) {
    return ErrnoStatus(errno, "cannot read " + path);
  }
  file.data_begin_ = static_cast<int64_t>(sizeof(length) + length);
  RETURN_IF_ERROR(file.ParseHeader(header, info.st_size - file.data_begin_));
  return file;
}

absl::Status SafetensorsFile::ParseHeader(const std::string& header, int64_t data_bytes) {
  const Json json = Json::parse(header, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return Damaged("its header is not a JSON object");
  std::vector<std::pair<int64_t, int64_t>> ranges;  // begin and end of each tensor, bytes
  for (const auto& [name, entry] : json.items()) {
    if (name == "__metadata__") {
      if (!entry.is_object()) return Damaged("its metadata is not an object");
      for (const auto& [key, value] : entry.items()) {
        if (!value.is_string()) return Damaged(fmt::format("metadata '{}' is no string", key));
        metadata_[key] = value.get<std::string>();
      }
      continue;
    }
    Tensor tensor;
    if (const std::string wrong = ParseTensor(entry, data_bytes, tensor); !wrong.empty()) {
      return Damaged(fmt::format("tensor '{}': {}; the file is truncated or damaged", name, wrong));
    }
    ranges.emplace_back(tensor.begin_bytes,
                        tensor.begin_bytes + tensor.size * int64_t{sizeof(float)});
    tensors_[name] = std::move(tensor);
  }
  std::sort(ranges.begin(), ranges.end());
  int64_t covered = 0;
  for (const auto& [begin, end] : ranges) {
    if (begin != covered) {
      return Damaged(fmt::format("its tensors {} at data byte {}",
                                 begin < covered ? "overlap" : "leave a gap",
                                 std::min(begin, covered)));
    }
    covered = end;
  }
  if (covered != data_bytes) {
    return Damaged(fmt::format("it holds {} bytes of data, its tensors have {}; it is {}",
                               data_bytes, covered,
                               data_bytes < covered ? "truncated" : "too long"));
  }
  return absl::OkStatus();
}

const std::string* SafetensorsFile::metadata(const std::string& key) const {
  const auto found = metadata_.find(key);
  return found == metadata_.end() ? nullptr : &found->second;
}

absl::Status SafetensorsFile::CheckData() const {
  for (const auto& [name, tensor] : tensors_) RETURN_IF_ERROR(Read(name).status());
  return absl::OkStatus();
}

absl::StatusOr<std::vector<float>> SafetensorsFile::Read(const std::string& name) const {
  const auto found = tensors_.find(name);
  CHECK(found != tensors_.end());
  const Tensor& tensor = found->second;
  std::vector<float> out(static_cast<size_t>(tensor.size));
  if (!ReadAll(*fd_, data_begin_ + tensor.begin_bytes, reinterpret_cast<char*>(out.data()),
               out.size() * sizeof(float))) {
    return ErrnoStatus(errno, fmt::format("cannot read tensor '{}' of {}", name, path_));
  }
  const std::string* crc = metadata("crc32c." + name);
  if (crc != nullptr && *crc != CrcText(out)) {
    return Damaged(
        fmt::format("tensor '{}' is damaged: its CRC-32C is {}, not {}", name, CrcText(out), *crc));
  }
  return out;
}

}  // namespace muster::ps
