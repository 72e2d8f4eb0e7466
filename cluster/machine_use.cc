#include "cluster/machine_use.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <utility>

#include "cluster/tool.h"

namespace muster::cluster {
namespace {

constexpr size_t kIdleColumn = 3, kWaitColumn = 4;  // of user, nice, system, idle, iowait, …
constexpr size_t kColumns = 8;                      // guests' time is in users' already

std::optional<CpuTicks> TicksNow() {
  std::ifstream stat("/proc/stat");
  std::string line;
  std::getline(stat, line);
  return ParseCpuTicks(line);
}

}  // namespace

std::optional<CpuTicks> ParseCpuTicks(std::string_view text) {
  text = text.substr(0, text.find('\n'));
  const std::vector<std::string> words =
      absl::StrSplit(absl::string_view(text.data(), text.size()), ' ', absl::SkipEmpty());
  if (words.size() <= 1 + kWaitColumn || words[0] != "cpu") return std::nullopt;
  CpuTicks ticks;
  for (size_t i = 1; i < std::min(words.size(), 1 + kColumns); ++i) {
    int64_t value = 0;
    if (!absl::SimpleAtoi(words[i], &value) || value < 0) return std::nullopt;
    ticks.all += value;
    if (i - 1 != kIdleColumn && i - 1 != kWaitColumn) ticks.busy += value;
  }
  return ticks;
}

double ParseGpuUse(std::string_view text) {
  double most = 0;
  for (const auto line :
       absl::StrSplit(absl::string_view(text.data(), text.size()), '\n', absl::SkipWhitespace())) {
    double percent = 0;
    if (absl::SimpleAtod(line, &percent) && percent <= 100) most = std::max(most, percent);
  }
  return most / 100;
}

MachineUse::MachineUse(std::vector<std::string> environment, int64_t period_ms)
    : environment_(std::move(environment)),
      nvidia_smi_(FindProgram("nvidia-smi", Variable(environment_, "PATH"))),
      period_ms_(period_ms) {}

MachineUse::~MachineUse() {
  if (asking_ != nullptr) asking_->Kill();
  if (answer_fd_ >= 0) close(answer_fd_);
}

double MachineUse::GpuShare() {
  if (nvidia_smi_.empty()) return 0;
  if (asking_ != nullptr) {
    // One that takes longer than a look: what it said last holds.
    if (!asking_->Poll()) return gpu_share_;
    char text[4096];
    const ssize_t n = pread(answer_fd_, text, sizeof(text), 0);
    gpu_share_ = n > 0 ? ParseGpuUse({text, static_cast<size_t>(n)}) : 0;
    asking_.reset();
    close(std::exchange(answer_fd_, -1));
  }
  answer_fd_ = memfd_create("gpus", MFD_CLOEXEC);
  ProcessSpec spec;
  spec.name = "nvidia-smi";
  spec.argv = {nvidia_smi_, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"};
  spec.environment = environment_;
  spec.log_path = "/dev/null";
  spec.fds = {{answer_fd_, STDOUT_FILENO}};
  if (auto process = Process::Start(spec); answer_fd_ >= 0 && process.ok()) {
    asking_ = *std::move(process);
  } else if (answer_fd_ >= 0) {
    close(std::exchange(answer_fd_, -1));
  }
  return gpu_share_;
}

std::optional<double> MachineUse::Look(int64_t now_ms) {
  if (now_ms < next_ms_) return std::nullopt;
  next_ms_ = now_ms + period_ms_;
  const auto now = TicksNow();
  const auto last = std::exchange(last_, now);
  const double gpus = GpuShare();
  if (!now || !last || now->all <= last->all) return std::nullopt;
  const double processors =
      static_cast<double>(now->busy - last->busy) / static_cast<double>(now->all - last->all);
  return std::clamp(std::max(processors, gpus), 0.0, 1.0);
}

}  // namespace muster::cluster
