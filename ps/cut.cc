#include "ps/cut.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace muster::ps {

CutWriter::CutWriter(const ParamTable& table, const Partition& partition,
                     std::vector<std::string> slot_names, int server, const ServerEvents& events)
    : table_(table),
      partition_(partition),
      slot_names_(std::move(slot_names)),
      server_(server),
      events_(events),
      thread_([this] { Run(); }) {}

CutWriter::~CutWriter() {
  {
    MutexLock lock(mu_);
    stopping_ = true;
  }
  work_.NotifyOne();
  thread_.join();
}

void CutWriter::Add(const std::shared_ptr<Cut>& cut, SavedSlice slice) {
  {
    MutexLock lock(cut->mu);
    if (cut->failed) return;
    cut->saved.push_back(std::move(slice));
    if (--cut->missing > 0) return;
  }
  Post({cut, absl::OkStatus()});
}

void CutWriter::Fail(const std::shared_ptr<Cut>& cut, const absl::Status& status) {
  {
    MutexLock lock(cut->mu);
    if (cut->failed) return;
    cut->failed = true;
    cut->saved.clear();
  }
  // A copy that shares nothing: its owner keeps the status, and the references of one status are
  // counted inside Debian's Abseil, where tsan does not see them.
  Post({cut, absl::Status(status.code(), status.message())});
}

std::shared_ptr<Cut> CutWriter::Begin(int64_t clock, const std::string& directory, size_t slices) {
  auto cut = std::make_shared<Cut>(clock, directory, slices);
  if (slices == 0) Post({cut, absl::OkStatus()});
  return cut;
}

void CutWriter::Post(Job job) {
  {
    MutexLock lock(mu_);
    jobs_.push_back(std::move(job));
  }
  work_.NotifyOne();
}

void CutWriter::Run() {
  while (true) {
    Job job;
    {
      MutexLock lock(mu_);
      while (jobs_.empty() && !stopping_) work_.Wait(mu_);
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    const std::string path = CheckpointPartPath(job.cut->directory, server_);
    const absl::Status status = job.failure.ok() ? Write(*job.cut, path) : job.failure;
    if (events_.on_cut) events_.on_cut(job.cut->clock, path, status);
  }
}

absl::Status CutWriter::Write(Cut& cut, const std::string& path) const {
  std::vector<SavedSlice> saved;
  {
    MutexLock lock(cut.mu);
    saved.swap(cut.saved);
  }
  // The order in which shards came must not show in the file.
  std::sort(saved.begin(), saved.end(),
            [](const SavedSlice& a, const SavedSlice& b) { return a.slice < b.slice; });
  return WriteCheckpointPart(path, table_, partition_, slot_names_, cut.clock, saved);
}

}  // namespace muster::ps
