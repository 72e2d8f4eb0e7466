// A plug-in without a GPU, which needs a library (fake_library.cc) that the loader does not find by
// itself. FAKE_PLUGIN_BUILD and FAKE_PLUGIN_TOOLKIT say what it claims to be.
#include <cstdlib>

#include "kernels/gpu_plugin.h"

extern "C" int fake_library();

namespace {

absl::StatusOr<std::unique_ptr<muster::Device>> MakeNone(const muster::GpuOptions&) {
  return absl::InternalError("the fake plug-in has no GPU");
}

absl::StatusOr<std::unique_ptr<muster::Communicator>> ConnectNone(std::span<const int>) {
  return absl::InternalError("the fake plug-in connects nothing");
}

}  // namespace

extern "C" const muster::GpuPlugin* muster_gpu_plugin() {
  static muster::GpuPlugin plugin;
  const char* build = std::getenv("FAKE_PLUGIN_BUILD");
  const char* toolkit = std::getenv("FAKE_PLUGIN_TOOLKIT");
  plugin = {build == nullptr ? "abc" : build, toolkit == nullptr ? 13000 : std::atoi(toolkit),
            "75 80 90+ptx", &MakeNone, &ConnectNone};
  return fake_library() == 1 ? &plugin : nullptr;
}
