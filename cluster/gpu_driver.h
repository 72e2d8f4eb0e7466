// NVIDIA's driver on machines that were rented with GPUs: looked at before anything of the job
// starts there, since a trainer whose GPUs do not answer may go on on the CPU at their price.
//
// For the launcher's main thread; the functions below CheckDrivers are pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cluster/hosts_run.h"
#include "cluster/node_set.h"
#include "cluster/tool.h"
#include "telemetry/status.h"

namespace muster::cluster {

// Fails with a line that names the first of `hosts` whose driver is missing or before `oldest` (a
// major version), what is there and what to do; Cancelled when the user interrupted. `install`: it
// is installed first where that is so, which is told, takes minutes and needs root (or sudo without
// a password), apt and the internet.
absl::Status CheckDrivers(const std::vector<RunHost>& hosts, int64_t oldest, bool install,
                          const Patience& patience, const Say& say);

// The command that tells of it, and the major version that it has told: of several GPUs the
// oldest; nothing for what is none.
std::string DriverQuestion();
std::optional<int64_t> ParseDriver(const ToolResult& answer);

// A line of sh that installs it from the packages of Ubuntu, or NVIDIA's own for Debian.
std::string InstallDriverScript(int64_t oldest);

}  // namespace muster::cluster
