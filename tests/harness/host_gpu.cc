#include "tests/harness/host_gpu.h"

#include <cstring>
#include <deque>
#include <functional>
#include <utility>
#include <vector>

#include "kernels/cuda/kernel_ops.h"
#include "kernels/cuda/patch_conv2d.h"
#include "telemetry/mutex.h"

namespace muster::testing {
namespace {

class Queue;

// What the streams of one device share. One thread at a time works for all of them.
struct Shared {
  explicit Shared(HostGpuPace p) : pace(p) {}
  const HostGpuPace pace;
  Mutex mu;
  std::vector<std::weak_ptr<Queue>> queues;  // of the streams that there were
};

// The work of one stream, in its order. Its functions are called with Shared::mu held.
class Queue {
 public:
  void Add(std::function<void()> work) { waiting_.push_back(std::move(work)); }
  // Work that was ever added.
  int64_t told() const { return done_ + static_cast<int64_t>(waiting_.size()); }
  int64_t done() const { return done_; }
  // Does the first `count` of it. Work that waits for another stream does that one's first.
  void RunUntil(int64_t count) {
    while (done_ < count) {
      const std::function<void()> work = std::move(waiting_.front());
      waiting_.pop_front();
      work();
      ++done_;
    }
  }

 private:
  std::deque<std::function<void()>> waiting_;
  int64_t done_ = 0;
};

class HostEvent final : public Event {
 public:
  explicit HostEvent(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}
  bool Done() const override {
    MutexLock lock(shared_->mu);
    return queue == nullptr || queue->done() >= count;
  }
  absl::Status Synchronize() override {
    MutexLock lock(shared_->mu);
    if (queue != nullptr) queue->RunUntil(count);
    return absl::OkStatus();
  }

  // The point, under Shared::mu; null: nothing was recorded.
  std::shared_ptr<Queue> queue;
  int64_t count = 0;

 private:
  const std::shared_ptr<Shared> shared_;
};

class HostStream final : public Stream {
 public:
  HostStream(Device& device, std::shared_ptr<Shared> shared)
      : Stream(device), shared_(std::move(shared)) {
    MutexLock lock(shared_->mu);
    shared_->queues.push_back(queue_);
  }
  ~HostStream() override { (void)Synchronize(); }

  void Do(std::function<void()> work) {
    if (shared_->pace == HostGpuPace::kAtOnce) return work();
    MutexLock lock(shared_->mu);
    queue_->Add(std::move(work));
  }
  void Record(Event& event) override {
    auto& host = static_cast<HostEvent&>(event);
    MutexLock lock(shared_->mu);
    host.queue = queue_;
    host.count = queue_->told();
  }
  void Wait(const Event& event) override {
    const auto& host = static_cast<const HostEvent&>(event);
    MutexLock lock(shared_->mu);
    if (host.queue == nullptr) return;
    queue_->Add([queue = host.queue, count = host.count] { queue->RunUntil(count); });
    if (shared_->pace == HostGpuPace::kAtOnce) queue_->RunUntil(queue_->told());
  }
  absl::Status Synchronize() override {
    MutexLock lock(shared_->mu);
    queue_->RunUntil(queue_->told());
    return absl::OkStatus();
  }

  float* Scratch(int64_t n) {
    if (static_cast<int64_t>(scratch_.size()) < n) {
      (void)Synchronize();  // before it moves
      scratch_.resize(static_cast<size_t>(n));
    }
    return scratch_.data();
  }

 private:
  const std::shared_ptr<Shared> shared_;
  const std::shared_ptr<Queue> queue_ = std::make_shared<Queue>();
  std::vector<float> scratch_;
};

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
};

// A convolution of the CPU, framed as cuDNN's is: the images padded, and the gradient of the padded
// images cropped, by the GPU's kernels.
template <class Ops>
class FramedConv2d final : public Conv2dPlan {
 public:
  FramedConv2d(const Conv2dArgs& args, Device& cpu, Ops& ops, std::unique_ptr<Stream> at_once)
      : args_(args),
        ops_(ops),
        frame_(gpu::FrameOf(args)),
        plan_(cpu.ops().MakeConv2d(Framed())),
        at_once_(std::move(at_once)) {}

  void Forward(Stream& stream, int64_t n, const float* x, const float* w, const float* bias,
               float* y) override {
    Do(stream, [=, this] {
      const std::vector<float> none(static_cast<size_t>(args_.out_channels));
      const std::vector<float> filter = ThereAndBack(w);
      plan_->Forward(*at_once_, n, Padded(n, x), filter.data(), none.data(), y);
      ops_.AddRow(*at_once_, Pixels(n), args_.out_channels, bias, y);
    });
  }
  void BackwardData(Stream& stream, int64_t n, const float* dy, const float* w,
                    float* dx) override {
    Do(stream, [=, this] {
      outer_.resize(OuterSize(n));
      plan_->BackwardData(*at_once_, n, dy, w, outer_.data());
      ops_.Crop(*at_once_, n, frame_, outer_.data(), dx);
    });
  }
  void BackwardWeights(Stream& stream, int64_t n, const float* x, const float* dy, float* dw,
                       float* dbias) override {
    Do(stream, [=, this] {
      std::vector<float> none(static_cast<size_t>(args_.out_channels));
      plan_->BackwardWeights(*at_once_, n, Padded(n, x), dy, dw, none.data());
      ops_.SumRows(*at_once_, Pixels(n), args_.out_channels, dy, dbias);
    });
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
  const float* Padded(int64_t n, const float* x) {
    outer_.resize(OuterSize(n));
    ops_.Pad(*at_once_, n, frame_, x, outer_.data());
    return outer_.data();
  }
  // The filter in cuDNN's order, and out of it.
  std::vector<float> ThereAndBack(const float* w) {
    std::vector<float> there(static_cast<size_t>(args_.patch() * args_.out_channels));
    std::vector<float> back(there.size());
    ops_.Transpose(*at_once_, args_.patch(), args_.out_channels, w, there.data());
    ops_.Transpose(*at_once_, args_.out_channels, args_.patch(), there.data(), back.data());
    return back;
  }
  int64_t Pixels(int64_t n) const { return n * args_.window.out.h * args_.window.out.w; }

  const Conv2dArgs args_;
  Ops& ops_;
  const gpu::Frame frame_;
  const std::unique_ptr<Conv2dPlan> plan_;
  const std::unique_ptr<Stream> at_once_;
  std::vector<float> outer_;
};

class HostGpuOps final : public gpu::KernelOps<HostLauncher> {
 public:
  explicit HostGpuOps(Device& device) : KernelOps(HostLauncher()), device_(device) {}

  void Copy(Stream& stream, void* to, const void* from, size_t bytes, CopyDirection) override {
    if (bytes > 0) Do(stream, [=] { std::memcpy(to, from, bytes); });
  }
  void Gemm(Stream& stream, const GemmArgs& args) override {
    Do(stream, [this, args] { cpu_->ops().Gemm(*cpu_->MakeStream(), args); });
  }
  std::unique_ptr<Conv2dPlan> MakeConv2d(const Conv2dArgs& args) override {
    // Small chunks: the tests' batches are several.
    if (args.in_channels < gpu::kLeastCudnnChannels) {
      return std::make_unique<gpu::PatchConv2d<HostGpuOps>>(args, device_, *this,
                                                            /*most_elements=*/100'000);
    }
    auto at_once =
        std::make_unique<HostStream>(device_, std::make_shared<Shared>(HostGpuPace::kAtOnce));
    return std::make_unique<FramedConv2d<HostGpuOps>>(args, *cpu_, *this, std::move(at_once));
  }

 private:
  Device& device_;
  const std::unique_ptr<Device> cpu_ = MakeCpuDevice(1);
};

class HostGpu final : public Device {
 public:
  HostGpu(HostGpuPace pace, size_t memory)
      : memory_(memory), shared_(std::make_shared<Shared>(pace)), ops_(*this) {}

  std::string name() const override { return "/gpu:0"; }
  std::string description() const override { return "kernels on the host"; }
  std::string model() const override { return "host"; }
  int threads() const override { return 1; }
  bool host_memory() const override { return false; }
  DeviceOps& ops() override { return ops_; }
  std::unique_ptr<Stream> MakeStream() override {
    return std::make_unique<HostStream>(*this, shared_);
  }
  std::unique_ptr<Event> MakeEvent() override { return std::make_unique<HostEvent>(shared_); }
  absl::StatusOr<void*> Allocate(size_t bytes) override {
    if (bytes > memory_) return absl::ResourceExhaustedError("no memory on /gpu:0");
    return cpu_->Allocate(bytes);
  }
  void Free(void* memory, size_t bytes) override {
    {
      MutexLock lock(shared_->mu);
      for (const auto& weak : shared_->queues) {
        if (const auto queue = weak.lock()) queue->RunUntil(queue->told());
      }
    }
    cpu_->Free(memory, bytes);
  }

 private:
  const size_t memory_;
  const std::unique_ptr<Device> cpu_ = MakeCpuDevice(1);
  const std::shared_ptr<Shared> shared_;
  HostGpuOps ops_;
};

}  // namespace

std::unique_ptr<Device> MakeHostGpu(HostGpuPace pace, size_t memory) {
  return std::make_unique<HostGpu>(pace, memory);
}

}  // namespace muster::testing
