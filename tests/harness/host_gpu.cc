#include "tests/harness/host_gpu.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <numeric>
#include <utility>
#include <vector>

#include "kernels/cuda/kernel_ops.h"
#include "kernels/cuda/patch_conv2d.h"
#include "tests/harness/host_stream.h"

namespace muster::testing {
namespace {

void Do(Stream& stream, std::function<void()> work) {
  static_cast<HostStream&>(stream).Do(std::move(work));
}

struct HostLauncher {
  // From the end: a kernel may not count on an order.
  template <class Kernel>
  void Launch(Stream& stream, int64_t n, const Kernel& kernel) {
    Do(stream, [n, kernel] {
      for (int64_t i = n; i-- > 0;) kernel(i);
    });
  }
  float* Scratch(Stream& stream, int64_t n) { return static_cast<HostStream&>(stream).Scratch(n); }
  int64_t SortScratch(Stream&, int64_t) { return 1; }
  void SortPairs(Stream& stream, int64_t n, int bits, const int32_t* keys, int32_t* sorted_keys,
                 const int32_t* values, int32_t* sorted_values, void* scratch,
                 int64_t scratch_elements) {
    Do(stream, [=] {
      std::memset(scratch, 0xff, static_cast<size_t>(scratch_elements) * sizeof(float));
      std::vector<int64_t> order(static_cast<size_t>(n));
      std::iota(order.begin(), order.end(), 0);
      std::ranges::stable_sort(order, {}, [&](int64_t i) { return keys[i] & ((1u << bits) - 1); });
      for (int64_t i = 0; i < n; ++i) {
        sorted_keys[i] = keys[order[static_cast<size_t>(i)]];
        sorted_values[i] = values[order[static_cast<size_t>(i)]];
      }
    });
  }
};

// A convolution of the CPU, framed as cuDNN's is: the images padded, and the gradient of the padded
// images cropped, by the GPU's kernels; in bfloat16 factors and results go through that.
template <class Ops>
class FramedConv2d final : public Conv2dPlan {
 public:
  FramedConv2d(const Conv2dArgs& args, Device& cpu, Ops& ops, std::unique_ptr<HostStream> at_once)
      : args_(args),
        ops_(ops),
        frame_(gpu::FrameOf(args)),
        plan_(cpu.ops().MakeConv2d(Framed())),
        at_once_(std::move(at_once)) {}

  void Forward(Stream& stream, int64_t n, const float* x, const float* w, const float* bias,
               float* y) override {
    Do(stream, [=, this] {
      const Floats filter = ops_.Rounded(*at_once_, ThereAndBack(w));
      Floats out(static_cast<size_t>(Pixels(n) * args_.out_channels));
      plan_->Forward(*at_once_, n, Padded(n, x).data(), filter.data(), nullptr, out.data());
      std::ranges::copy(ops_.Rounded(*at_once_, std::move(out)), y);
      if (bias != nullptr) ops_.AddRow(*at_once_, Pixels(n), args_.out_channels, bias, y);
    });
  }
  bool adds_bias_apart() const override { return true; }
  void BackwardData(Stream& stream, int64_t n, const float* dy, const float* w,
                    float* dx) override {
    Do(stream, [=, this] {
      const Floats from = Gradient(n, dy), filter = ops_.Rounded(*at_once_, ThereAndBack(w));
      Floats outer(OuterSize(n));
      plan_->BackwardData(*at_once_, n, from.data(), filter.data(), outer.data());
      outer = ops_.Rounded(*at_once_, std::move(outer));
      ops_.Crop(*at_once_, n, frame_, outer.data(), dx);
    });
  }
  void BackwardWeights(Stream& stream, int64_t n, const float* x, const float* dy, float* dw,
                       float* dbias) override {
    Do(stream, [=, this] {
      Floats out(static_cast<size_t>(args_.patch() * args_.out_channels));
      plan_->BackwardWeights(*at_once_, n, Padded(n, x).data(), Gradient(n, dy).data(), out.data(),
                             nullptr);
      std::ranges::copy(ops_.Rounded(*at_once_, std::move(out)), dw);
      if (dbias == nullptr) return;
      ops_.SumRows(*at_once_, Pixels(n), args_.out_channels, dy, dbias);
    });
  }

 private:
  using Floats = std::vector<float>;

  Conv2dArgs Framed() const {
    Conv2dArgs framed = args_;
    framed.window.in = {frame_.outer_h, frame_.outer_w};
    framed.window.pad = {0, 0};
    return framed;
  }
  size_t OuterSize(int64_t n) const {
    return static_cast<size_t>(n * frame_.outer_h * frame_.outer_w * frame_.channels);
  }
  Floats Padded(int64_t n, const float* x) {
    Floats outer(OuterSize(n));
    ops_.Pad(*at_once_, n, frame_, x, outer.data());
    return ops_.Rounded(*at_once_, std::move(outer));
  }
  Floats Gradient(int64_t n, const float* dy) {
    return ops_.Rounded(*at_once_, Floats(dy, dy + Pixels(n) * args_.out_channels));
  }
  // The filter in cuDNN's order, and out of it.
  Floats ThereAndBack(const float* w) {
    Floats there(static_cast<size_t>(args_.patch() * args_.out_channels));
    Floats back(there.size());
    ops_.Transpose(*at_once_, args_.patch(), args_.out_channels, w, there.data());
    ops_.Transpose(*at_once_, args_.out_channels, args_.patch(), there.data(), back.data());
    return back;
  }
  int64_t Pixels(int64_t n) const { return n * args_.window.out.h * args_.window.out.w; }

  const Conv2dArgs args_;
  Ops& ops_;
  const gpu::Frame frame_;
  const std::unique_ptr<Conv2dPlan> plan_;
  const std::unique_ptr<HostStream> at_once_;
};

class HostGpuOps final : public gpu::KernelOps<HostLauncher> {
 public:
  HostGpuOps(Device& device, const HostGpuOptions& options)
      : KernelOps(HostLauncher()),
        device_(device),
        precision_(options.precision),
        codecs_(options.codecs) {}

  void Copy(Stream& stream, void* to, const void* from, size_t bytes,
            CopyDirection direction) override {
    if (bytes == 0) return;
    auto& host = static_cast<HostStream&>(stream);
    if (HostGpuCopies* const copies = host.streams().options.copies.get()) {
      if (direction == CopyDirection::kDeviceToHost) {
        copies->to_host_bytes += static_cast<int64_t>(bytes);
      } else if (direction == CopyDirection::kHostToDevice) {
        copies->to_device_bytes += static_cast<int64_t>(bytes);
      }
    }
    const void* const on_host = direction == CopyDirection::kHostToDevice ? from : to;
    if (host.capturing() && direction != CopyDirection::kDeviceToDevice &&
        !host.streams().IsPinned(on_host, bytes)) {
      host.Refuse("memory that is not pinned is copied");
    }
    host.Do([=] { std::memcpy(to, from, bytes); });
  }
  void Gemm(Stream& stream, const GemmArgs& args) override {
    Do(stream, [this, args] {
      if (args.float32) return Multiply(args);
      const auto matrix = [](const float* x, bool trans, int64_t rows, int64_t cols, int64_t ld) {
        if (trans) std::swap(rows, cols);
        return std::vector<float>(x, x + (rows - 1) * ld + cols);
      };
      HostStream at_once(device_, std::make_shared<Streams>(HostGpuPace::kAtOnce));
      const auto a = Rounded(at_once, matrix(args.a, args.trans_a, args.m, args.k, args.lda));
      const auto b = Rounded(at_once, matrix(args.b, args.trans_b, args.k, args.n, args.ldb));
      GemmArgs rounded = args;
      rounded.a = a.data(), rounded.b = b.data();
      Multiply(rounded);
    });
  }
  // As what a product or a convolution takes and gives.
  std::vector<float> Rounded(HostStream& at_once, std::vector<float> x) {
    if (precision_ != GpuPrecision::kBf16) return x;
    const auto n = static_cast<int64_t>(x.size());
    std::vector<uint16_t> bf16(x.size());
    RoundToBf16(at_once, n, x.data(), bf16.data());
    WidenBf16(at_once, n, bf16.data(), x.data());
    return x;
  }
  std::unique_ptr<DeviceCodec> MakeCodec(const Codec& codec) override {
    return codecs_ ? KernelOps::MakeCodec(codec) : nullptr;
  }
  std::unique_ptr<Conv2dPlan> MakeConv2d(const Conv2dArgs& args) override {
    // Small chunks: the tests' batches are several.
    if (args.in_channels < gpu::kLeastCudnnChannels) {
      return std::make_unique<gpu::PatchConv2d<HostGpuOps>>(args, device_, *this,
                                                            /*most_elements=*/100'000);
    }
    auto at_once =
        std::make_unique<HostStream>(device_, std::make_shared<Streams>(HostGpuPace::kAtOnce));
    return std::make_unique<FramedConv2d<HostGpuOps>>(args, *cpu_, *this, std::move(at_once));
  }

 private:
  void Multiply(const GemmArgs& args) { cpu_->ops().Gemm(*cpu_->MakeStream(), args); }

  Device& device_;
  const GpuPrecision precision_;
  const bool codecs_;
  const std::unique_ptr<Device> cpu_ = MakeCpuDevice(1);
};

class HostGpu final : public Device {
 public:
  HostGpu(int index, std::shared_ptr<Streams> streams)
      : index_(index), streams_(std::move(streams)), ops_(*this, streams_->options) {}

  std::string name() const override { return "/gpu:" + std::to_string(index_); }
  std::string description() const override { return "kernels on the host"; }
  std::string model() const override { return "host"; }
  int threads() const override { return 1; }
  bool host_memory() const override { return false; }
  DeviceOps& ops() override { return ops_; }
  std::unique_ptr<Stream> MakeStream() override {
    return std::make_unique<HostStream>(*this, streams_);
  }
  std::unique_ptr<Event> MakeEvent() override { return std::make_unique<HostEvent>(streams_); }
  absl::StatusOr<void*> Allocate(size_t bytes) override {
    if (HostStream* const stream = streams_->Capturing()) stream->Refuse("memory is allocated");
    if (bytes > streams_->options.memory) {
      return absl::ResourceExhaustedError("no memory on " + name());
    }
    return cpu_->Allocate(bytes);
  }
  int64_t frees() const override { return streams_->frees; }
  absl::Status Pin(void* memory, size_t bytes) override {
    MutexLock lock(streams_->mu);
    streams_->pinned[static_cast<std::byte*>(memory)] = bytes;
    return absl::OkStatus();
  }
  void Unpin(void* memory) override {
    MutexLock lock(streams_->mu);
    streams_->pinned.erase(static_cast<std::byte*>(memory));
  }
  void Free(void* memory, size_t bytes) override {
    if (HostStream* const stream = streams_->Capturing()) stream->Refuse("memory is freed");
    ++streams_->frees;
    {
      MutexLock lock(streams_->mu);
      for (const auto& weak : streams_->queues) {
        const auto queue = weak.lock();
        CHECK((queue == nullptr || queue->RunUntil(queue->told())) && "this would wait for ever");
      }
    }
    cpu_->Free(memory, bytes);
  }

 private:
  const int index_;
  const std::unique_ptr<Device> cpu_ = MakeCpuDevice(1);
  const std::shared_ptr<Streams> streams_;
  HostGpuOps ops_;
};

}  // namespace

std::unique_ptr<Device> MakeHostGpu(const HostGpuOptions& options) {
  return std::make_unique<HostGpu>(0, std::make_shared<Streams>(options));
}

HostGpus MakeHostGpus(int count, HostGpuPace pace, std::optional<FailingGpu> failing, bool graphs) {
  HostGpus made;
  std::vector<const Device*> devices;
  const auto streams = std::make_shared<Streams>(HostGpuOptions{.pace = pace, .graphs = graphs});
  for (int i = 0; i < count; ++i) {
    made.devices.push_back(std::make_unique<HostGpu>(i, streams));
    devices.push_back(made.devices.back().get());
  }
  made.communicator = MakeHostCommunicator(std::move(devices), failing);
  return made;
}

}  // namespace muster::testing
