// PatchConv2d: a convolution as a product of its images' patches with the filter, for few channels,
// of which cuDNN's kernels leave most of a tensor core idle, and, in bfloat16, for numbers of them
// that cuDNN has no kernels for.
//
//   y = patches(x) w + bias        dw = patches(x)^T dy        dx = gather(dy w^T)
//
// Batches go in chunks of images whose patches fit into kPatchElements, in their order. Owned by
// one thread; owns its patches. `Ops` is a KernelOps with Gemm.
#pragma once

#include <algorithm>

#include "kernels/device.h"
#include "kernels/device_ops.h"

namespace muster::gpu {

inline constexpr int64_t kPatchElements = int64_t{64} << 20;
// Convolutions of fewer channels go by patches: TF32's tensor cores take four at a time.
inline constexpr int64_t kLeastCudnnChannels = 4;

template <class Ops>
class PatchConv2d final : public Conv2dPlan {
 public:
  PatchConv2d(const Conv2dArgs& args, Device& device, Ops& ops,
              int64_t most_elements = kPatchElements)
      : args_(args),
        device_(device),
        ops_(ops),
        chunk_(std::max<int64_t>(1, most_elements / (OutPixels() * args.patch()))) {}

  void Forward(Stream& stream, int64_t n, const float* x, const float* w, const float* bias,
               float* y) override {
    ForEachChunk(n, [&](int64_t first, int64_t images) {
      ops_.Patches(stream, images, args_, x + first * InSize(), patches_.data<float>());
      GemmArgs g{.m = images * OutPixels(), .n = args_.out_channels, .k = args_.patch()};
      g.a = patches_.data<float>(), g.lda = args_.patch();
      g.b = w, g.ldb = args_.out_channels;
      g.c = y + first * OutSize(), g.ldc = args_.out_channels;
      g.bias = bias;
      ops_.Gemm(stream, g);
    });
  }

  void BackwardData(Stream& stream, int64_t n, const float* dy, const float* w,
                    float* dx) override {
    ForEachChunk(n, [&](int64_t first, int64_t images) {
      GemmArgs g{
          .trans_b = true, .m = images * OutPixels(), .n = args_.patch(), .k = args_.out_channels};
      g.a = dy + first * OutSize(), g.lda = args_.out_channels;
      g.b = w, g.ldb = args_.out_channels;
      g.c = patches_.data<float>(), g.ldc = args_.patch();
      ops_.Gemm(stream, g);
      ops_.PatchGradient(stream, images, args_, patches_.data<float>(), dx + first * InSize());
    });
  }

  void BackwardWeights(Stream& stream, int64_t n, const float* x, const float* dy, float* dw,
                       float* dbias) override {
    ForEachChunk(n, [&](int64_t first, int64_t images) {
      ops_.Patches(stream, images, args_, x + first * InSize(), patches_.data<float>());
      GemmArgs g{
          .trans_a = true, .m = args_.patch(), .n = args_.out_channels, .k = images * OutPixels()};
      g.a = patches_.data<float>(), g.lda = args_.patch();
      g.b = dy + first * OutSize(), g.ldb = args_.out_channels;
      g.beta = first == 0 ? 0.0f : 1.0f;
      g.c = dw, g.ldc = args_.out_channels;
      ops_.Gemm(stream, g);
    });
    if (dbias == nullptr) return;
    ops_.SumRows(stream, n * OutPixels(), args_.out_channels, dy, dbias);
  }

 private:
  int64_t OutPixels() const { return args_.window.out.h * args_.window.out.w; }
  int64_t OutSize() const { return OutPixels() * args_.out_channels; }
  int64_t InSize() const { return args_.window.in.h * args_.window.in.w * args_.in_channels; }

  template <class F>
  void ForEachChunk(int64_t n, const F& run) {
    const int64_t largest = std::min(n, chunk_);
    const size_t bytes = static_cast<size_t>(largest * OutPixels() * args_.patch()) * sizeof(float);
    if (patches_.size_bytes() < bytes) patches_ = Buffer(device_, bytes);
    for (int64_t first = 0; first < n; first += chunk_) run(first, std::min(chunk_, n - first));
  }

  const Conv2dArgs args_;
  Device& device_;
  Ops& ops_;
  const int64_t chunk_;  // images
  Buffer patches_;
};

}  // namespace muster::gpu
