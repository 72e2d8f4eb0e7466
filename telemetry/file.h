// Files: whole-file reads and durable whole-file writes, with errors that say what to do.
//
// Free functions, thread-safe (two writers of one path: one of them wins whole). Paths are the
// caller's; nothing is expanded.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "telemetry/status.h"

namespace muster {

// Replaces the file at `path` by `text`: written to a temporary file beside it, fsync, renamed, and
// the folder fsynced, so that a reader or a crash sees the old or the new text, never a part. Fails
// with the path and the cause (no space, no permission …); the old file then stays and the
// temporary one is removed.
absl::Status WriteFileAtomically(const std::string& path, std::string_view text);
// The same with a text in parts, one after the other, so that big data need not be put together.
absl::Status WriteFileAtomically(const std::string& path, std::span<const std::string_view> parts);

// Appends `text` to the open file `fd`, in as many writes as it takes. `path` names it where that
// fails.
absl::Status WriteAll(int fd, std::string_view text, const std::string& path);

// The whole file. NotFound when there is none, else with the path and the cause.
absl::StatusOr<std::string> ReadFile(const std::string& path);

// A status for the failed system call `what` ("cannot write D/state.json"), with errno's text and,
// where we know it, what to do.
absl::Status ErrnoStatus(int error, std::string_view what);

}  // namespace muster
