#include "tests/harness/host_gpu.h"

#include <cstring>
#include <utility>
#include <vector>

#include "kernels/cuda/kernel_ops.h"
#include "kernels/cuda/patch_conv2d.h"

namespace muster::testing {
namespace {

class DoneEvent final : public Event {
 public:
  bool Done() const override { return true; }
  absl::Status Synchronize() override { return absl::OkStatus(); }
};

class HostStream final : public Stream {
 public:
  using Stream::Stream;
  void Record(Event&) override {}
  void Wait(const Event&) override {}
  absl::Status Synchronize() override { return absl::OkStatus(); }

  std::vector<float> scratch;
};

struct HostLauncher {
  // From the end: a kernel may not count on an order.
  template <class Kernel>
  void Launch(Stream&, int64_t n, const Kernel& kernel) {
    for (int64_t i = n; i-- > 0;) kernel(i);
  }
  float* Scratch(Stream& stream, int64_t n) {
    auto& scratch = static_cast<HostStream&>(stream).scratch;
    if (static_cast<int64_t>(scratch.size()) < n) scratch.resize(static_cast<size_t>(n));
    return scratch.data();
  }
};

// A convolution of the CPU, framed as cuDNN's is: the images padded, and the gradient of the padded
// images cropped, by the GPU's kernels.
template <class Ops>
class FramedConv2d final : public Conv2dPlan {
 public:
  FramedConv2d(const Conv2dArgs& args, Device& cpu, Ops& ops)
      : args_(args), ops_(ops), frame_(gpu::FrameOf(args)), plan_(cpu.ops().MakeConv2d(Framed())) {}

  void Forward(Stream& stream, int64_t n, const float* x, const float* w, const float* bias,
               float* y) override {
    const std::vector<float> none(static_cast<size_t>(args_.out_channels));
    const std::vector<float> filter = ThereAndBack(stream, w);
    plan_->Forward(stream, n, Padded(stream, n, x), filter.data(), none.data(), y);
    ops_.AddRow(stream, Pixels(n), args_.out_channels, bias, y);
  }
  void BackwardData(Stream& stream, int64_t n, const float* dy, const float* w,
                    float* dx) override {
    outer_.resize(OuterSize(n));
    plan_->BackwardData(stream, n, dy, w, outer_.data());
    ops_.Crop(stream, n, frame_, outer_.data(), dx);
  }
  void BackwardWeights(Stream& stream, int64_t n, const float* x, const float* dy, float* dw,
                       float* dbias) override {
    std::vector<float> none(static_cast<size_t>(args_.out_channels));
    plan_->BackwardWeights(stream, n, Padded(stream, n, x), dy, dw, none.data());
    ops_.SumRows(stream, Pixels(n), args_.out_channels, dy, dbias);
  }

 private:
  Conv2dArgs Framed() const {
    Conv2dArgs framed = args_;
    framed.window.in = {frame_.outer_h, frame_.outer_w};
    framed.window.pad = {0, 0};
    return framed;
  }
  size_t OuterSize(int64_t n) const {
    return static_cast<size_t>(n * frame_.outer_h * frame_.outer_w * frame_.channels);
  }
  const float* Padded(Stream& stream, int64_t n, const float* x) {
    outer_.resize(OuterSize(n));
    ops_.Pad(stream, n, frame_, x, outer_.data());
    return outer_.data();
  }
  // The filter in cuDNN's order, and out of it.
  std::vector<float> ThereAndBack(Stream& stream, const float* w) {
    std::vector<float> there(static_cast<size_t>(args_.patch() * args_.out_channels));
    std::vector<float> back(there.size());
    ops_.Transpose(stream, args_.patch(), args_.out_channels, w, there.data());
    ops_.Transpose(stream, args_.out_channels, args_.patch(), there.data(), back.data());
    return back;
  }
  int64_t Pixels(int64_t n) const { return n * args_.window.out.h * args_.window.out.w; }

  const Conv2dArgs args_;
  Ops& ops_;
  const gpu::Frame frame_;
  const std::unique_ptr<Conv2dPlan> plan_;
  std::vector<float> outer_;
};

class HostGpuOps final : public gpu::KernelOps<HostLauncher> {
 public:
  HostGpuOps() : KernelOps(HostLauncher()) {}

  void Copy(Stream&, void* to, const void* from, size_t bytes, CopyDirection) override {
    if (bytes > 0) std::memcpy(to, from, bytes);
  }
  void Gemm(Stream& stream, const GemmArgs& args) override { cpu_->ops().Gemm(stream, args); }
  std::unique_ptr<Conv2dPlan> MakeConv2d(const Conv2dArgs& args) override {
    // Small chunks: the tests' batches are several.
    if (args.in_channels < gpu::kLeastCudnnChannels) {
      return std::make_unique<gpu::PatchConv2d<HostGpuOps>>(args, *cpu_, *this,
                                                            /*most_elements=*/100'000);
    }
    return std::make_unique<FramedConv2d<HostGpuOps>>(args, *cpu_, *this);
  }

 private:
  const std::unique_ptr<Device> cpu_ = MakeCpuDevice(1);
};

class HostGpu final : public Device {
 public:
  std::string name() const override { return "/gpu:0"; }
  std::string description() const override { return "kernels on the host"; }
  std::string model() const override { return "host"; }
  int threads() const override { return 1; }
  bool host_memory() const override { return false; }
  DeviceOps& ops() override { return ops_; }
  std::unique_ptr<Stream> MakeStream() override { return std::make_unique<HostStream>(*this); }
  std::unique_ptr<Event> MakeEvent() override { return std::make_unique<DoneEvent>(); }
  absl::StatusOr<void*> Allocate(size_t bytes) override { return cpu_->Allocate(bytes); }
  void Free(void* memory, size_t bytes) override { cpu_->Free(memory, bytes); }

 private:
  const std::unique_ptr<Device> cpu_ = MakeCpuDevice(1);
  HostGpuOps ops_;
};

}  // namespace

std::unique_ptr<Device> MakeHostGpu() { return std::make_unique<HostGpu>(); }

}  // namespace muster::testing
