#include <fmt/format.h>

#include <cstdlib>
#include <cstring>
#include <dnnl.hpp>

#include "kernels/device.h"
#include "kernels/op_cpu.h"
#include "telemetry/check.h"

namespace muster {
namespace {

const char* InstructionSet() {
  switch (dnnl::get_effective_cpu_isa()) {
    case dnnl::cpu_isa::sse41:
      return "sse41";
    case dnnl::cpu_isa::avx:
      return "avx";
    case dnnl::cpu_isa::avx2:
      return "avx2";
    case dnnl::cpu_isa::avx2_vnni:
      return "avx2_vnni";
    case dnnl::cpu_isa::avx512_core:
      return "avx512_core";
    case dnnl::cpu_isa::avx512_core_vnni:
      return "avx512_core_vnni";
    case dnnl::cpu_isa::avx512_core_bf16:
      return "avx512_core_bf16";
    case dnnl::cpu_isa::avx512_core_amx:
      return "avx512_core_amx";
    default:
      return "generic";
  }
}

// Everything on cpu is done when the call returns.
class CpuEvent final : public Event {
 public:
  bool Done() const override { return true; }
  absl::Status Synchronize() override { return absl::OkStatus(); }
};

class CpuStream final : public Stream {
 public:
  using Stream::Stream;
  void Record(Event&) override {}
  void Wait(const Event&) override {}
  absl::Status Synchronize() override { return absl::OkStatus(); }
};

class CpuDevice final : public Device {
 public:
  explicit CpuDevice(int threads) : threads_(threads), ops_(threads) { CHECK_GE(threads, 1); }

  std::string name() const override { return "/cpu:0"; }
  std::string description() const override {
    return fmt::format("{} thread{}, {}", threads_, threads_ == 1 ? "" : "s", InstructionSet());
  }
  std::string model() const override { return "cpu"; }
  int threads() const override { return threads_; }
  bool host_memory() const override { return true; }
  DeviceOps& ops() override { return ops_; }
  std::unique_ptr<Stream> MakeStream() override { return std::make_unique<CpuStream>(*this); }
  std::unique_ptr<Event> MakeEvent() override { return std::make_unique<CpuEvent>(); }

  absl::StatusOr<void*> Allocate(size_t bytes) override {
    const size_t rounded = (bytes + 63) / 64 * 64;
    void* memory = std::aligned_alloc(64, rounded == 0 ? 64 : rounded);
    if (memory == nullptr) {
      return absl::ResourceExhaustedError(fmt::format("{} has no memory for another {:.1f} MiB",
                                                      name(),
                                                      static_cast<double>(bytes) / (1 << 20)));
    }
    std::memset(memory, 0, rounded);
    return memory;
  }
  void Free(void* memory, size_t) override { std::free(memory); }

 private:
  const int threads_;
  CpuOps ops_;
};

}  // namespace

std::unique_ptr<Device> MakeCpuDevice(int threads) { return std::make_unique<CpuDevice>(threads); }

}  // namespace muster
