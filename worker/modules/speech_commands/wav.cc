#include "worker/modules/speech_commands/wav.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>

namespace muster::worker {
namespace {

static_assert(std::endian::native == std::endian::little, "WAV samples are copied as they are");

constexpr int64_t kHead = 48 << 10;  // read at once: the whole of a one-second clip
constexpr int64_t kCheckHead = 512;  // read at once when only the header counts
constexpr uint16_t kPcm = 1;         // WAVE_FORMAT_PCM
constexpr uint16_t kExtensible =
    0xFFFE;  // WAVE_FORMAT_EXTENSIBLE: the format stands in the subformat

uint16_t U16(const uint8_t* p) { return static_cast<uint16_t>(p[0] | p[1] << 8); }
uint32_t U32(const uint8_t* p) { return U16(p) | static_cast<uint32_t>(U16(p + 2)) << 16; }

// An open file of which the first bytes are held in memory.
class File {
 public:
  explicit File(const std::string& path) : path_(path) {}
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  absl::Status Open(int64_t head) {
    fd_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat status {};
    if (fd_ < 0 || fstat(fd_, &status) != 0) {
      return absl::ErrnoToStatus(errno, fmt::format("{}: cannot be opened", path_));
    }
    if (!S_ISREG(status.st_mode)) {
      return Fail("is not a regular file");
    }
    size_ = status.st_size;
    head_.resize(std::min(size_, head));
    return ReadExactly(0, head_.data(), static_cast<int64_t>(head_.size()));
  }

  // Reads [offset, offset + count), which must lie inside the file.
  absl::Status Read(int64_t offset, void* to, int64_t count) const {
    const int64_t held = std::clamp<int64_t>(static_cast<int64_t>(head_.size()) - offset, 0, count);
    if (held > 0) {
      std::memcpy(to, head_.data() + offset, held);
    }
    return ReadExactly(offset + held, static_cast<uint8_t*>(to) + held, count - held);
  }

  int64_t size() const { return size_; }
  absl::Status Fail(std::string_view what) const {
    return absl::InvalidArgumentError(fmt::format("{}: {}", path_, what));
  }

 private:
  absl::Status ReadExactly(int64_t offset, uint8_t* to, int64_t count) const {
    while (count > 0) {
      const ssize_t got = pread(fd_, to, count, offset);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) {
        return absl::ErrnoToStatus(errno, fmt::format("{}: cannot be read", path_));
      }
      if (got == 0) {
        return Fail("became shorter while it was read");
      }
      to += got;
      offset += got;
      count -= got;
    }
    return absl::OkStatus();
  }

  const std::string& path_;
  int fd_ = -1;
  int64_t size_ = 0;
  std::vector<uint8_t> head_;
};

struct Samples {
  int64_t offset = 0;  // of the first sample, in bytes
  int64_t count = 0;
};

absl::Status CheckFormat(const File& file, const uint8_t* fmt_chunk, uint32_t size,
                         int sample_rate) {
  uint16_t format = U16(fmt_chunk);
  if (format == kExtensible && size >= 26) {
    format = U16(fmt_chunk + 24);
  }
  const int channels = U16(fmt_chunk + 2);
  const uint32_t rate = U32(fmt_chunk + 4);
  const int bits = U16(fmt_chunk + 14);
  if (format != kPcm) {
    return file.Fail(fmt::format("format {}, not PCM; convert it to 16-bit PCM", format));
  }
  if (channels != 1) {
    return file.Fail(fmt::format("{} channels; convert it to mono", channels));
  }
  if (bits != 16) {
    return file.Fail(fmt::format("{} bits per sample; convert it to 16", bits));
  }
  if (rate != static_cast<uint32_t>(sample_rate)) {
    return file.Fail(fmt::format("{} Hz; convert it to {} Hz (--sample_rate)", rate, sample_rate));
  }
  return absl::OkStatus();
}

// Walks the chunks up to the samples: "RIFF" size "WAVE", then chunks of (name, size, bytes, padded
// to even).
absl::StatusOr<Samples> FindSamples(const File& file, int sample_rate) {
  if (file.size() == 0) {
    return file.Fail("empty file");
  }
  std::array<uint8_t, 12> riff = {};
  RETURN_IF_ERROR(file.Read(0, riff.data(), std::min<int64_t>(file.size(), riff.size())));
  if (std::memcmp(riff.data(), "RIFF", std::min<int64_t>(file.size(), 4)) != 0 ||
      (file.size() >= 12 && std::memcmp(riff.data() + 8, "WAVE", 4) != 0)) {
    return file.Fail("not a WAV file (it does not begin with RIFF … WAVE)");
  }
  bool have_format = false;
  int64_t at = riff.size();
  while (at + 8 <= file.size()) {
    std::array<uint8_t, 8> header{};
    RETURN_IF_ERROR(file.Read(at, header.data(), header.size()));
    at += static_cast<int64_t>(header.size());
    const std::string_view name(reinterpret_cast<const char*>(header.data()), 4);
    const uint32_t size = U32(header.data() + 4);
    if (at + size > file.size()) {
      return file.Fail(fmt::format("truncated: chunk '{}' has {} of {} bytes",
                                   name == "fmt " || name == "data" ? name : "?", file.size() - at,
                                   size));
    }
    if (name == "fmt ") {
      std::array<uint8_t, 40> chunk = {};
      if (size < 16) {
        return file.Fail(fmt::format("the format chunk has {} bytes, fewer than 16", size));
      }
      RETURN_IF_ERROR(file.Read(at, chunk.data(), std::min<int64_t>(size, chunk.size())));
      RETURN_IF_ERROR(CheckFormat(file, chunk.data(), size, sample_rate));
      have_format = true;
    } else if (name == "data") {
      if (!have_format) {
        return file.Fail("the samples come before the format");
      }
      if (size < sizeof(int16_t)) {
        return file.Fail("no samples");
      }
      return Samples{at, size / static_cast<int64_t>(sizeof(int16_t))};
    }
    at += int64_t{size} + size % 2;
  }
  return file.Fail("truncated: the header ends before the samples");
}

}  // namespace

absl::Status ReadWav(const std::string& path, int sample_rate, int64_t max_samples,
                     std::vector<int16_t>& samples) {
  File file(path);
  RETURN_IF_ERROR(file.Open(kHead));
  ASSIGN_OR_RETURN(const Samples found, FindSamples(file, sample_rate));
  samples.resize(std::min(found.count, max_samples));
  return file.Read(found.offset, samples.data(),
                   static_cast<int64_t>(samples.size() * sizeof(int16_t)));
}

absl::Status CheckWav(const std::string& path, int sample_rate) {
  File file(path);
  RETURN_IF_ERROR(file.Open(kCheckHead));
  return FindSamples(file, sample_rate).status();
}

absl::Status WriteWav(const std::string& path, int sample_rate, std::span<const int16_t> samples) {
  const uint32_t bytes = static_cast<uint32_t>(samples.size_bytes());
  std::vector<uint8_t> contents;
  contents.reserve(44 + bytes);
  const auto put_name = [&](const char* name) { contents.insert(contents.end(), name, name + 4); };
  const auto put = [&](uint32_t value, int width) {
    for (int i = 0; i < width; ++i) contents.push_back(static_cast<uint8_t>(value >> (8 * i)));
  };
  put_name("RIFF"), put(36 + bytes, 4), put_name("WAVE");
  put_name("fmt "), put(16, 4), put(kPcm, 2), put(1, 2);
  put(sample_rate, 4), put(sample_rate * 2, 4), put(2, 2), put(16, 2);
  put_name("data"), put(bytes, 4);
  const auto* raw = reinterpret_cast<const uint8_t*>(samples.data());
  contents.insert(contents.end(), raw, raw + bytes);

  const std::string part = path + ".part";
  std::FILE* out = std::fopen(part.c_str(), "wb");
  if (out == nullptr) {
    return absl::ErrnoToStatus(errno, fmt::format("{}: cannot be written", part));
  }
  const bool written = std::fwrite(contents.data(), 1, contents.size(), out) == contents.size();
  const bool closed = std::fclose(out) == 0;
  if (!written || !closed || std::rename(part.c_str(), path.c_str()) != 0) {
    const absl::Status status =
        absl::ErrnoToStatus(errno, fmt::format("{}: cannot be written", path));
    std::remove(part.c_str());
    return status;
  }
  return absl::OkStatus();
}

}  // namespace muster::worker
