#include "cluster/node_files.h"

#include <sys/stat.h>

#include <utility>

#include "cluster/node_wire.h"

namespace muster::cluster {

absl::Status NodeFiles::Handle(const NodeRequest& request) {
  if (request.has_list()) {
    List();
  } else if (request.has_get()) {
    return Get(request.get().path());
  } else if (request.has_put()) {
    Put(request.put());
  }
  return absl::OkStatus();
}

void NodeFiles::List() {
  const auto files = master::ListJobFiles(folder_);
  if (!files.ok()) return Complain(files.status());
  NodeEvent event;
  event.mutable_files();
  for (const auto& [path, file] : *files) {
    FileList::File& entry = *event.mutable_files()->add_files();
    entry.set_path(path);
    entry.set_bytes(file.bytes);
    entry.set_modified_ns(file.modified_ns);
  }
  send_(event);
}

absl::Status NodeFiles::Get(const std::string& path) {
  if (!master::IsPathInside(path)) {
    return absl::InvalidArgumentError("a path outside of the job's directory");
  }
  struct stat info {};
  stat((folder_ + "/" + path).c_str(), &info);
  outgoing_.push_back(
      {path, 0, info.st_mtim.tv_sec * int64_t{1'000'000'000} + info.st_mtim.tv_nsec});
  return absl::OkStatus();
}

void NodeFiles::Put(const FilePart& part) {
  const absl::Status written =
      writer_.Write(part.path(), part.bytes(), part.last(), part.modified_ns());
  if (!written.ok()) return Complain(written);
  if (!part.last()) return;
  NodeEvent event;
  event.mutable_written()->set_path(part.path());
  send_(event);
}

void NodeFiles::SendPart() {
  if (outgoing_.empty()) return;
  Outgoing& file = outgoing_.front();
  NodeEvent event;
  FilePart& part = *event.mutable_part();
  part.set_path(file.path);
  part.set_modified_ns(file.modified_ns);
  auto bytes = master::ReadPart(folder_ + "/" + file.path, file.offset, kMaxPartBytes);
  if (!bytes.ok()) part.set_error(std::string(bytes.status().message()));
  part.set_last(!bytes.ok() || bytes->size() < kMaxPartBytes);
  if (bytes.ok()) {
    file.offset += static_cast<int64_t>(bytes->size());
    part.set_bytes(*std::move(bytes));
  }
  // A small file does not wait for a large one.
  if (!part.last()) outgoing_.push_back(file);
  outgoing_.pop_front();
  send_(event);
}

void NodeFiles::Complain(const absl::Status& status) {
  NodeEvent event;
  event.mutable_error()->set_text(std::string(status.message()));
  send_(event);
}

}  // namespace muster::cluster
