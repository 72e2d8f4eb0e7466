// Convolutions by cuDNN's classic interface, in its channels-last layout, which is ours.
//
// It has one type for all three arrays of a convolution. So in bfloat16 both factors are rounded
// into scratch memory, sums are in float32, and what comes out is rounded to bfloat16, too, before
// it is widened again.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "kernels/cuda/conv_kernels.h"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/cuda_stream.h"
#include "kernels/device.h"

namespace muster::gpu {
namespace {

absl::Status Checked(cudnnStatus_t error) { return ToStatus(error, "prepare a convolution"); }

// What tensor cores may compute.
cudnnMathType_t MathTypeOf(GpuPrecision precision) {
  switch (precision) {
    case GpuPrecision::kFloat32:
      return CUDNN_FMA_MATH;  // nothing
    case GpuPrecision::kTf32:
      return CUDNN_DEFAULT_MATH;
    case GpuPrecision::kBf16:
      return CUDNN_TENSOR_OP_MATH;
  }
  return CUDNN_FMA_MATH;
}

// The first algorithm that cuDNN's heuristic names and that gives the same bits each time. The
// heuristic is a function of shape, device and library, so all workers of a job take the same one.
template <class Perf>
absl::StatusOr<Perf> FirstDeterministic(const std::array<Perf, 10>& found, int count) {
  for (int i = 0; i < count; ++i) {
    if (found[i].status == CUDNN_STATUS_SUCCESS && found[i].determinism == CUDNN_DETERMINISTIC) {
      return found[i];
    }
  }
  return absl::InternalError("cuDNN has no deterministic algorithm for a convolution");
}

class CudnnConv2d final : public Conv2dPlan {
 public:
  CudnnConv2d(const Conv2dArgs& args, Device& device, ConvKernels& kernels, GpuPrecision precision)
      : args_(args),
        device_(device),
        kernels_(kernels),
        frame_(FrameOf(args)),
        bf16_(precision == GpuPrecision::kBf16),
        status_(MakeDescriptors(precision)) {}

  ~CudnnConv2d() override {
    cudnnDestroyTensorDescriptor(y_);
    cudnnDestroyTensorDescriptor(x_);
    cudnnDestroyConvolutionDescriptor(convolution_);
    cudnnDestroyFilterDescriptor(filter_);
  }

  void Forward(Stream& stream, int64_t n, const float* x, const float* w, const float* bias,
               float* y) override {
    auto& cuda = static_cast<CudaStream&>(stream);
    if (!Ready(cuda, n)) return;
    const void* const outer = Factor(stream, OuterSize(n), Padded(stream, n, x), x16_);
    const void* const filter = Factor(stream, FilterSize(), Filter(stream, w), filter16_);
    cuda.Keep(ToStatus(
        cudnnConvolutionForward(cuda.cudnn(), &kOne, x_, outer, filter_, filter, convolution_,
                                forward_.algo, cuda.Workspace(forward_.memory), forward_.memory,
                                &kZero, y_, Result(y, y16_)),
        "run a convolution"));
    Widen(stream, OutSize(n), y16_, y);
    if (bias != nullptr) kernels_.AddBias(stream, Pixels(n), args_.out_channels, bias, y);
  }

  bool adds_bias_apart() const override { return true; }

  void BackwardData(Stream& stream, int64_t n, const float* dy, const float* w,
                    float* dx) override {
    auto& cuda = static_cast<CudaStream&>(stream);
    if (!Ready(cuda, n)) return;
    const void* const filter = Factor(stream, FilterSize(), Filter(stream, w), filter16_);
    const void* const from = Factor(stream, OutSize(n), dy, y16_);
    float* const outer = pads_ ? padded_.data() : dx;
    cuda.Keep(ToStatus(
        cudnnConvolutionBackwardData(cuda.cudnn(), &kOne, filter_, filter, y_, from, convolution_,
                                     data_.algo, cuda.Workspace(data_.memory), data_.memory, &kZero,
                                     x_, Result(outer, x16_)),
        "run a convolution's gradient of its input"));
    Widen(stream, OuterSize(n), x16_, outer);
    if (pads_) kernels_.CropImages(stream, n, frame_, outer, dx);
  }

  void BackwardWeights(Stream& stream, int64_t n, const float* x, const float* dy, float* dw,
                       float* dbias) override {
    auto& cuda = static_cast<CudaStream&>(stream);
    if (!Ready(cuda, n)) return;
    const void* const outer = Factor(stream, OuterSize(n), Padded(stream, n, x), x16_);
    const void* const from = Factor(stream, OutSize(n), dy, y16_);
    cuda.Keep(ToStatus(cudnnConvolutionBackwardFilter(
                           cuda.cudnn(), &kOne, x_, outer, y_, from, convolution_, weights_.algo,
                           cuda.Workspace(weights_.memory), weights_.memory, &kZero, filter_,
                           Result(transposed_.data(), filter16_)),
                       "run a convolution's gradient of its weights"));
    Widen(stream, FilterSize(), filter16_, transposed_.data());
    kernels_.TransposeFilter(stream, args_.out_channels, args_.patch(), transposed_.data(), dw);
    if (dbias == nullptr) return;
    kernels_.SumBias(stream, Pixels(n), args_.out_channels, dy, dbias);
  }

 private:
  static constexpr float kOne = 1, kZero = 0;

  absl::Status MakeDescriptors(GpuPrecision precision) {
    const Window& w = args_.window;
    const auto n = [](int64_t v) { return static_cast<int>(v); };
    RETURN_IF_ERROR(Checked(cudnnCreateFilterDescriptor(&filter_)));
    RETURN_IF_ERROR(Checked(cudnnCreateConvolutionDescriptor(&convolution_)));
    RETURN_IF_ERROR(Checked(cudnnCreateTensorDescriptor(&x_)));
    RETURN_IF_ERROR(Checked(cudnnCreateTensorDescriptor(&y_)));
    RETURN_IF_ERROR(Checked(cudnnSetFilter4dDescriptor(filter_, type(), CUDNN_TENSOR_NHWC,
                                                       n(args_.out_channels), n(args_.in_channels),
                                                       n(w.kernel.h), n(w.kernel.w))));
    RETURN_IF_ERROR(Checked(cudnnSetConvolution2dDescriptor(
        convolution_, /*pad_h=*/0, /*pad_w=*/0, n(w.stride.h), n(w.stride.w), 1, 1,
        CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT)));
    return Checked(cudnnSetConvolutionMathType(convolution_, MathTypeOf(precision)));
  }

  // Makes everything fit batches of n. False when the plan, or the stream, has failed.
  bool Ready(CudaStream& stream, int64_t n) {
    const cudnnHandle_t handle = stream.cudnn();
    if (handle != nullptr && status_.ok() && n != n_) status_ = Resize(handle, n);
    stream.Keep(status_);
    return handle != nullptr && status_.ok();
  }

  absl::Status Resize(cudnnHandle_t handle, int64_t n) {
    const int batch = static_cast<int>(n), out = static_cast<int>(args_.out_channels);
    RETURN_IF_ERROR(Checked(cudnnSetTensor4dDescriptor(
        x_, CUDNN_TENSOR_NHWC, type(), batch, frame_.channels, frame_.outer_h, frame_.outer_w)));
    RETURN_IF_ERROR(Checked(cudnnSetTensor4dDescriptor(y_, CUDNN_TENSOR_NHWC, type(), batch, out,
                                                       static_cast<int>(args_.window.out.h),
                                                       static_cast<int>(args_.window.out.w))));
    int count = 0;
    std::array<cudnnConvolutionFwdAlgoPerf_t, 10> forward = {};
    RETURN_IF_ERROR(Checked(cudnnGetConvolutionForwardAlgorithm_v7(
        handle, x_, filter_, convolution_, y_, forward.size(), &count, forward.data())));
    ASSIGN_OR_RETURN(forward_, FirstDeterministic(forward, count));
    std::array<cudnnConvolutionBwdDataAlgoPerf_t, 10> data = {};
    RETURN_IF_ERROR(Checked(cudnnGetConvolutionBackwardDataAlgorithm_v7(
        handle, filter_, y_, convolution_, x_, data.size(), &count, data.data())));
    ASSIGN_OR_RETURN(data_, FirstDeterministic(data, count));
    std::array<cudnnConvolutionBwdFilterAlgoPerf_t, 10> weights = {};
    RETURN_IF_ERROR(Checked(cudnnGetConvolutionBackwardFilterAlgorithm_v7(
        handle, x_, y_, convolution_, filter_, weights.size(), &count, weights.data())));
    ASSIGN_OR_RETURN(weights_, FirstDeterministic(weights, count));

    MakeRoom(transposed_, FilterSize() * sizeof(float));
    if (pads_) MakeRoom(padded_, OuterSize(n) * sizeof(float));
    if (bf16_) {
      MakeRoom(filter16_, FilterSize() * sizeof(uint16_t));
      MakeRoom(x16_, OuterSize(n) * sizeof(uint16_t));
      MakeRoom(y16_, OutSize(n) * sizeof(uint16_t));
    }
    n_ = n;
    return absl::OkStatus();
  }

  void MakeRoom(Buffer& buffer, size_t bytes) {
    if (buffer.size_bytes() < bytes) buffer = Buffer(device_, bytes);
  }

  const float* Padded(Stream& stream, int64_t n, const float* x) {
    if (!pads_) return x;
    kernels_.PadImages(stream, n, frame_, x, padded_.data());
    return padded_.data();
  }

  // [out_channels, kernel.h, kernel.w, in_channels]
  float* Filter(Stream& stream, const float* w) {
    kernels_.TransposeFilter(stream, args_.patch(), args_.out_channels, w, transposed_.data());
    return transposed_.data();
  }

  // What cuDNN reads in the place of `x`: `rounded`, in bfloat16.
  const void* Factor(Stream& stream, size_t n, const float* x, const Buffer& rounded) {
    if (!bf16_) return x;
    kernels_.ToBf16(stream, static_cast<int64_t>(n), x, rounded.data<uint16_t>());
    return rounded.data<uint16_t>();
  }
  // Where it writes what is to be `x`, and how it becomes that.
  void* Result(float* x, const Buffer& rounded) const {
    return bf16_ ? rounded.data<void>() : static_cast<void*>(x);
  }
  void Widen(Stream& stream, size_t n, const Buffer& rounded, float* x) {
    if (bf16_) kernels_.FromBf16(stream, static_cast<int64_t>(n), rounded.data<uint16_t>(), x);
  }

  cudnnDataType_t type() const { return bf16_ ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT; }
  int64_t Pixels(int64_t n) const { return n * args_.window.out.h * args_.window.out.w; }
  // In elements: of the framed images, of what comes out, of the filter.
  size_t OuterSize(int64_t n) const {
    return static_cast<size_t>(n) * frame_.outer_h * frame_.outer_w * frame_.channels;
  }
  size_t OutSize(int64_t n) const { return static_cast<size_t>(Pixels(n) * args_.out_channels); }
  size_t FilterSize() const { return static_cast<size_t>(args_.patch() * args_.out_channels); }

  const Conv2dArgs args_;
  Device& device_;
  ConvKernels& kernels_;
  const Frame frame_;
  const bool pads_ = frame_.h != frame_.outer_h || frame_.w != frame_.outer_w;
  const bool bf16_;
  cudnnFilterDescriptor_t filter_ = nullptr;
  cudnnConvolutionDescriptor_t convolution_ = nullptr;
  cudnnTensorDescriptor_t x_ = nullptr, y_ = nullptr;  // of batches of n_
  absl::Status status_;                                // after what it is made with
  int64_t n_ = -1;
  cudnnConvolutionFwdAlgoPerf_t forward_ = {};
  cudnnConvolutionBwdDataAlgoPerf_t data_ = {};
  cudnnConvolutionBwdFilterAlgoPerf_t weights_ = {};
  Buffer transposed_;            // the filter, or its gradient, in cuDNN's order
  Buffer padded_;                // the images, or their gradient, in their frame
  Buffer x16_, filter16_, y16_;  // in bfloat16: the framed images, the filter, what comes out
};

}  // namespace

std::unique_ptr<Conv2dPlan> MakeCudnnConv2d(const Conv2dArgs& args, Device& device,
                                            ConvKernels& kernels, GpuPrecision precision) {
  return std::make_unique<CudnnConv2d>(args, device, kernels, precision);
}

}  // namespace muster::gpu
