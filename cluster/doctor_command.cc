#include "cluster/doctor_command.h"

#include <fmt/format.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/communicator_check.h"
#include "kernels/device_check.h"

namespace muster::cluster {
namespace {

// True when all of them hold.
bool Print(std::FILE* out, const std::string& title, const std::vector<OpCheck>& checks) {
  fmt::print(out, "\n{:<30} {:>12} {:>10}\n", title, "difference", "allowed");
  bool all = true;
  for (const OpCheck& check : checks) {
    all = all && check.ok();
    if (!check.status.ok()) {
      fmt::print(out, "{:<30} {}\n", check.op, std::string(check.status.message()));
    } else {
      fmt::print(out, "{:<30} {:>12.2g} {:>10.2g}{}\n", check.op, check.difference, check.allowed,
                 check.ok() ? "" : "  WRONG");
    }
  }
  return all;
}

void PrintFailure(std::FILE* out, std::string_view what, const absl::Status& status) {
  fmt::print(out, "\n{:<29} {}\n", what, std::string(status.message()));
}

// True when all ops give what the CPU gives.
bool CheckPrecision(std::FILE* out, const GpuChain& chain, GpuPrecision precision) {
  const auto device = chain.MakeDevice({.index = 0, .precision = precision});
  if (!device.ok()) {
    PrintFailure(out, NameOf(precision), device.status());
    return false;
  }
  if (precision == GpuPrecision::kFloat32) {
    fmt::print(out, "\ndevice {}: {}\n", (*device)->name(), (*device)->description());
  }
  return Print(out, fmt::format("op, {}", NameOf(precision)),
               CheckDevice(**device, ProductTolerance(precision)));
}

// True when all GPUs together, or a single one as if it were several, give plain sums. One does
// without NCCL: then it may be missing.
bool CheckNccl(std::FILE* out, const GpuChain& chain) {
  std::vector<std::unique_ptr<Device>> devices;
  for (const int index : chain.gpus()) {
    auto device = chain.MakeDevice({.index = index});
    if (!device.ok()) {
      PrintFailure(out, "NCCL", device.status());
      return false;
    }
    devices.push_back(*std::move(device));
  }
  const auto communicator = chain.MakeCommunicator();
  if (!communicator.ok()) {
    PrintFailure(out, "NCCL", communicator.status());
    return devices.size() == 1;
  }
  return Print(out, "NCCL, " + GpuNames(chain.gpus()), CheckCommunicator(devices, **communicator));
}

}  // namespace

int RunDoctorCommand(const CommandContext& context, const GpuSearch& search) {
  if (!context.words.empty()) {
    const bool help = context.words.front() == "--help" || context.words.front() == "-h";
    fmt::print(
        help ? context.out : context.err,
        "{}Usage: launch doctor\n\nSays which link between this program and a GPU is broken, "
        "runs each operation once on the GPU and on the CPU, and NCCL between all GPUs.\n",
        help ? "" : "launch doctor takes no arguments\n\n");
    return help ? kSucceeded : kWrongInput;
  }
  const GpuChain chain = GpuChain::Find(search, {}, /*all=*/true);
  for (const GpuLink& link : chain.links()) {
    fmt::print(context.out, "{:<13} {:<6} {}\n", link.name, link.ok ? "ok" : "BROKEN", link.detail);
    if (!link.ok) fmt::print(context.out, "{:<20} {}\n", "", link.mend);
  }
  if (!chain.status().ok()) {
    fmt::print(context.out,
               "\nNo usable GPU: jobs train on the CPU, and those with "
               "training.device: GPU are refused.\n");
    return kJobFailed;
  }
  bool right = CheckPrecision(context.out, chain, GpuPrecision::kFloat32);
  right = CheckPrecision(context.out, chain, GpuPrecision::kTf32) && right;
  if (chain.has_bf16()) {
    right = CheckPrecision(context.out, chain, GpuPrecision::kBf16) && right;
  } else {
    fmt::print(context.out, "\nop, BF16: this GPU has none: it begins with compute 8.0\n");
  }
  const GpuChain all = GpuChain::Find(search, {.wanted = chain.count()});
  bool nccl = false;
  if (all.status().ok()) {
    nccl = CheckNccl(context.out, all);
  } else {
    PrintFailure(context.out, "several GPUs in one process", all.status());
  }
  return right && nccl ? kSucceeded : kJobFailed;
}

}  // namespace muster::cluster
