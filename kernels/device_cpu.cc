#include <cstdlib>

#include "kernels/device.h"
#include "kernels/op_cpu.h"
#include "telemetry/check.h"

namespace muster {
namespace {

constexpr size_t kAlignment = 64;

const DeviceOps kCpuOps = {
    .mat_mul = cpu::MatMul,
    .add_bias = cpu::AddBias,
    .bias_grad = cpu::BiasGrad,
    .conv2d_forward = cpu::Conv2dForward,
    .conv2d_backward_input = cpu::Conv2dBackwardInput,
    .conv2d_backward_filter = cpu::Conv2dBackwardFilter,
    .relu = cpu::Relu,
    .relu_grad = cpu::ReluGrad,
    .dropout = cpu::Dropout,
    .relu_dropout_grad = cpu::ReluDropoutGrad,
    .max_pool = cpu::MaxPool,
    .relu_dropout_max_pool_grad = cpu::ReluDropoutMaxPoolGrad,
    .softmax_cross_entropy = cpu::SoftmaxCrossEntropy,
};

class CpuDevice : public Device {
 public:
  explicit CpuDevice(int threads) : threads_(threads) { CHECK_GE(threads, 1); }
  const std::string& name() const override { return name_; }
  int threads() const override { return threads_; }
  const DeviceOps& ops() const override { return kCpuOps; }
  void* Allocate(size_t bytes) override {
    void* memory = std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) & ~(kAlignment - 1));
    CHECK(memory != nullptr || bytes == 0);
    return memory;
  }
  void Free(void* memory) override { std::free(memory); }

 private:
  const std::string name_ = "/cpu:0";
  const int threads_;
};

}  // namespace

std::unique_ptr<Device> MakeCpuDevice(int threads) { return std::make_unique<CpuDevice>(threads); }

}  // namespace muster
