#include "cluster/doctor_command.h"

#include <fmt/format.h>

#include <memory>

#include "kernels/device_check.h"

namespace muster::cluster {
namespace {

constexpr double kFloat32Tolerance = 1e-5, kTf32Tolerance = 5e-3;

// True when all ops give what the CPU gives.
bool CheckPrecision(std::FILE* out, const GpuChain& chain, const char* name, GpuPrecision precision,
                    double tolerance) {
  const auto device = chain.MakeDevice({.index = 0, .precision = precision});
  if (!device.ok()) {
    fmt::print(out, "  {:<28} {}\n", name, std::string(device.status().message()));
    return false;
  }
  if (precision == GpuPrecision::kFloat32) {
    fmt::print(out, "\ndevice {}: {}\n", (*device)->name(), (*device)->description());
  }
  fmt::print(out, "\n{:<30} {:>12} {:>10}\n", fmt::format("op, {}", name), "difference", "allowed");
  bool all = true;
  for (const OpCheck& check : CheckDevice(**device, tolerance)) {
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

}  // namespace

int RunDoctorCommand(const CommandContext& context, const GpuSearch& search) {
  if (!context.words.empty()) {
    const bool help = context.words.front() == "--help" || context.words.front() == "-h";
    fmt::print(
        help ? context.out : context.err,
        "{}Usage: launch doctor\n\nSays which link between this program and a GPU is broken, "
        "and runs each operation once on the GPU and on the CPU.\n",
        help ? "" : "launch doctor takes no arguments\n\n");
    return help ? kSucceeded : kWrongInput;
  }
  const GpuChain chain = GpuChain::Find(search, /*index=*/0, /*all=*/true);
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
  const bool float32 =
      CheckPrecision(context.out, chain, "FP32", GpuPrecision::kFloat32, kFloat32Tolerance);
  const bool tf32 = CheckPrecision(context.out, chain, "TF32", GpuPrecision::kTf32, kTf32Tolerance);
  return float32 && tf32 ? kSucceeded : kJobFailed;
}

}  // namespace muster::cluster
