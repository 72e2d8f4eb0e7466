// MachineUse: how busy this machine is: the share of its processors' time that was used since the
// last look, or of its GPUs' where that is more (nvidia-smi, when there is one). In a container the
// kernel tells of the whole machine, so others' work counts, too.
//
// Owned by the process's main thread (cluster/process.h). Never blocks.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/process.h"

namespace muster::cluster {

// Ticks of all processors since the machine began.
struct CpuTicks {
  int64_t busy = 0, all = 0;
};
// The first line of /proc/stat; nullopt when it is none.
std::optional<CpuTicks> ParseCpuTicks(std::string_view text);
// The greatest of the shares, in percent, that nvidia-smi prints one a line; 0 for what it does not
// know.
double ParseGpuUse(std::string_view text);

class MachineUse {
 public:
  // `environment`: "NAME=value", where nvidia-smi is found. Looks every `period_ms`.
  MachineUse(std::vector<std::string> environment, int64_t period_ms);
  ~MachineUse();
  MachineUse(const MachineUse&) = delete;
  MachineUse& operator=(const MachineUse&) = delete;

  // From 0 to 1; nullopt when there is nothing new.
  std::optional<double> Look(int64_t now_ms);

 private:
  // What the GPUs were found to do; asks again.
  double GpuShare();

  const std::vector<std::string> environment_;
  const std::string nvidia_smi_;  // "": there is none
  const int64_t period_ms_;
  std::optional<CpuTicks> last_;
  int64_t next_ms_ = 0;
  std::unique_ptr<Process> asking_;
  int answer_fd_ = -1;  // in memory
  double gpu_share_ = 0;
};

}  // namespace muster::cluster
