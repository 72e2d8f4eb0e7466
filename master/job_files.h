// The files of a job's directory as they travel between hosts: listed, read in parts, and put in
// place by rename with the time at which they were written.
//
// Not thread-safe; each folder is written by one process. Logs, locks and unfinished files stay
// where they are.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "telemetry/status.h"

namespace muster::master {

struct JobFile {
  int64_t bytes = 0;
  int64_t modified_ns = 0;  // Unix time
  bool operator==(const JobFile&) const = default;
};

// By path relative to `folder`. Regular files only, nothing behind links. An absent folder has
// none.
absl::StatusOr<std::map<std::string, JobFile>> ListJobFiles(const std::string& folder);

// Whether `path` names a file below a folder: relative, and no part of it is "", "." or "..".
bool IsPathInside(std::string_view path);

// Reads [offset, offset + size) of the file, less at its end. Fails when it cannot be opened.
absl::StatusOr<std::string> ReadPart(const std::string& path, int64_t offset, size_t size);

// Writes files that come in parts, several at a time. What is not finished is removed with the
// object.
class JobFileWriter {
 public:
  explicit JobFileWriter(std::string folder) : folder_(std::move(folder)) {}
  ~JobFileWriter();
  JobFileWriter(const JobFileWriter&) = delete;
  JobFileWriter& operator=(const JobFileWriter&) = delete;

  // Appends to the file at `path`, and with `last` puts it in its place. Fails with
  // InvalidArgument for a path that leads outside of the folder, else with the cause.
  absl::Status Write(const std::string& path, std::string_view bytes, bool last,
                     int64_t modified_ns);

 private:
  const std::string folder_;
  std::map<std::string, int> open_;  // path → descriptor of its temporary file
};

}  // namespace muster::master
