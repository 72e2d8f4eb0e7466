// Safetensors files of float32 tensors: 8 bytes of header length, a JSON header (name → dtype,
// shape, offsets; string metadata under `__metadata__`), then the data. The format is Hugging
// Face's; anything that reads it reads our checkpoints.
//
// Writing is a free function, thread-safe (two writers of one path: one of them wins whole). A
// SafetensorsFile is immutable once open: thread-safe. Lengths are in elements unless a name says
// bytes.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "telemetry/status.h"

namespace muster::ps {

// A tensor to write; `data` is borrowed for the call.
struct TensorView {
  std::string name;
  std::vector<int64_t> shape;
  std::span<const float> data;
};

// Replaces the file at `path`: written beside it, fsync, renamed, folder fsynced, so a reader or a
// crash sees the old or the new file. Each tensor's CRC-32C goes into the metadata
// (`crc32c.<name>`). Fails with the path and the cause; the old file then stays.
absl::Status WriteSafetensors(const std::string& path, std::span<const TensorView> tensors,
                              std::map<std::string, std::string> metadata);

class SafetensorsFile {
 public:
  struct Tensor {
    std::vector<int64_t> shape;
    int64_t size = 0;         // elements
    int64_t begin_bytes = 0;  // in the data part
  };

  // Reads and checks the header: its length, JSON, dtypes, shapes, that offsets cover the data
  // without overlap or gap, and that the file ends where they say. DataLoss names the file (and
  // tensor) and what is wrong.
  static absl::StatusOr<SafetensorsFile> Open(const std::string& path);

  const std::string& path() const { return path_; }
  const std::map<std::string, Tensor>& tensors() const { return tensors_; }
  // The metadata `key`, or null.
  const std::string* metadata(const std::string& key) const;
  // The tensor's data; checked against its CRC when the file has one. DataLoss names file and
  // tensor. PRECONDITION: it is there.
  absl::StatusOr<std::vector<float>> Read(const std::string& name) const;
  // Reads every tensor. DataLoss names the file and the first tensor that is damaged.
  absl::Status CheckData() const;

 private:
  SafetensorsFile() = default;
  absl::Status Damaged(const std::string& what) const;
  absl::Status ParseHeader(const std::string& header, int64_t data_bytes);

  std::string path_;
  std::shared_ptr<const int> fd_;  // closed with the last copy
  int64_t data_begin_ = 0;         // bytes from the start of the file
  std::map<std::string, Tensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace muster::ps
