// Convolution as a matrix product. With P [out.h * out.w, patch] the patches of one image and w as
// [patch, out_channels]:
//   y = bias + P w        dw = P^T dy        dP = dy w^T, added back to where the patches came from
// Blocks of output rows whose patches fit into a core's cache are the unit of work: P never exists
// as a whole.
#include <dnnl.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/op_cpu.h"
#include "kernels/parallel_cpu.h"
#include "kernels/simd_cpu.h"
#include "telemetry/check.h"

namespace muster {
namespace {

constexpr int64_t kBlockElements = 64 * 1024;  // of patches: 256 KiB

void Sgemm(char trans_a, char trans_b, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda,
           const float* b, int64_t ldb, float beta, float* c, int64_t ldc) {
  CHECK(dnnl_sgemm(trans_a, trans_b, m, n, k, 1, a, lda, b, ldb, beta, c, ldc) == dnnl_success);
}

class PatchConv2d final : public Conv2dPlan {
 public:
  PatchConv2d(const Conv2dArgs& args, int threads)
      : args_(args),
        threads_(threads),
        rows_(std::clamp<int64_t>(kBlockElements / (args.window.out.w * args.patch()), 1,
                                  args.window.out.h)),
        blocks_((args.window.out.h + rows_ - 1) / rows_),
        image_(args.window.in.h * args.window.in.w * args.in_channels),
        out_image_(args.window.out.h * args.window.out.w * args.out_channels),
        patches_(threads, std::vector<float>(rows_ * args.window.out.w * args.patch())) {}

  void Forward(Stream&, int64_t n, const float* x, const float* w, const float* bias,
               float* y) override {
    const ThreadScope scope(threads_);
    const int64_t oc = args_.out_channels;
    ParallelFor(threads_, n * blocks_, [&](int part, int64_t begin, int64_t end) {
      for (int64_t at = begin; at < end; ++at) {
        const Block block = BlockAt(at);
        float* to = y + block.out;
        for (int64_t p = 0; p < block.pixels && bias != nullptr; ++p) {
          std::copy_n(bias, oc, to + p * oc);
        }
        Gather(block, x, patches_[part].data());
        Sgemm('N', 'N', block.pixels, oc, args_.patch(), patches_[part].data(), args_.patch(), w,
              oc, bias != nullptr ? 1 : 0, to, oc);
      }
    });
  }

  void BackwardData(Stream&, int64_t n, const float* dy, const float* w, float* dx) override {
    const ThreadScope scope(threads_);
    const int64_t oc = args_.out_channels;
    ParallelFor(threads_, n, [&](int part, int64_t begin, int64_t end) {
      std::fill(dx + begin * image_, dx + end * image_, 0.0f);
      for (int64_t at = begin * blocks_; at < end * blocks_; ++at) {
        const Block block = BlockAt(at);
        Sgemm('N', 'T', block.pixels, args_.patch(), oc, dy + block.out, oc, w, oc, 0,
              patches_[part].data(), args_.patch());
        Scatter(block, patches_[part].data(), dx);
      }
    });
  }

  void BackwardWeights(Stream&, int64_t n, const float* x, const float* dy, float* dw,
                       float* dbias) override {
    const ThreadScope scope(threads_);
    const int64_t oc = args_.out_channels;
    const int64_t weights = args_.patch() * oc;
    // The first part sums in place, the others beside it; then they are added in their order.
    std::vector<float> sums((threads_ - 1) * (weights + oc));
    std::fill_n(dw, weights, 0.0f);
    if (dbias != nullptr) std::fill_n(dbias, oc, 0.0f);
    ParallelFor(threads_, n * blocks_, [&](int part, int64_t begin, int64_t end) {
      float* sum = part == 0 ? dw : &sums[(part - 1) * (weights + oc)];
      float* bias_sum = part == 0 ? dbias : sum + weights;
      for (int64_t at = begin; at < end; ++at) {
        const Block block = BlockAt(at);
        Gather(block, x, patches_[part].data());
        const float* from = dy + block.out;
        Sgemm('T', 'N', args_.patch(), oc, block.pixels, patches_[part].data(), args_.patch(), from,
              oc, 1, sum, oc);
        if (dbias != nullptr) simd::SumRows(block.pixels, oc, from, bias_sum);
      }
    });
    for (int part = 1; part < threads_; ++part) {
      const float* sum = &sums[(part - 1) * (weights + oc)];
      simd::Add(weights, sum, dw);
      if (dbias != nullptr) simd::Add(oc, sum + weights, dbias);
    }
  }

 private:
  struct Block {
    int64_t sample, row, rows;  // output rows [row, row + rows) of a sample
    int64_t pixels;             // rows * out.w
    int64_t out;                // of its first output, in elements
  };

  Block BlockAt(int64_t at) const {
    const Window& w = args_.window;
    const int64_t sample = at / blocks_, row = at % blocks_ * rows_;
    const int64_t rows = std::min(rows_, w.out.h - row);
    return {sample, row, rows, rows * w.out.w,
            sample * out_image_ + row * w.out.w * args_.out_channels};
  }

  // For each patch calls f(patch, image, count, rows), unless all of it is padding: `rows` runs of
  // `count` elements lie on the image, the first at offset `patch` of the patches and at offset
  // `image` of the image, the next a kernel's and an image's row further on. Before that calls
  // pad(patch) for each patch that has padding.
  template <class F, class Pad>
  void ForEachPatch(const Block& block, const F& f, const Pad& pad) const {
    const Window& w = args_.window;
    const int64_t c = args_.in_channels, run = w.kernel.w * c;
    int64_t patch = 0;
    for (int64_t i = block.row; i < block.row + block.rows; ++i) {
      const int64_t top = i * w.stride.h - w.pad.h;
      const int64_t a0 = std::max<int64_t>(0, -top);
      const int64_t a1 = std::max(a0, std::min(w.kernel.h, w.in.h - top));
      for (int64_t j = 0; j < w.out.w; ++j, patch += args_.patch()) {
        const int64_t left = j * w.stride.w - w.pad.w;
        const int64_t b0 = std::max<int64_t>(0, -left) * c;
        const int64_t b1 = std::min(w.kernel.w, w.in.w - left) * c;
        if (a0 > 0 || a1 < w.kernel.h || b0 > 0 || b1 < run) pad(patch);
        if (b1 <= b0) continue;
        f(patch + a0 * run + b0, ((top + a0) * w.in.w + left) * c + b0, b1 - b0, a1 - a0);
      }
    }
  }

  void Gather(const Block& block, const float* x, float* patches) const {
    const float* image = x + block.sample * image_;
    const int64_t run = args_.window.kernel.w * args_.in_channels;
    const int64_t row = args_.window.in.w * args_.in_channels;
    ForEachPatch(
        block,
        [=](int64_t patch, int64_t at, int64_t count, int64_t rows) {
          float* to = patches + patch;
          const float* from = image + at;
          if (count == 8) {  // a constant size is one vector move
            for (; rows > 0; --rows, to += run, from += row) std::memcpy(to, from, 32);
          } else {
            for (; rows > 0; --rows, to += run, from += row) std::copy_n(from, count, to);
          }
        },
        [&](int64_t patch) { std::fill_n(patches + patch, args_.patch(), 0.0f); });
  }

  void Scatter(const Block& block, const float* patches, float* dx) const {
    float* image = dx + block.sample * image_;
    const int64_t run = args_.window.kernel.w * args_.in_channels;
    const int64_t row = args_.window.in.w * args_.in_channels;
    ForEachPatch(
        block,
        [=](int64_t patch, int64_t at, int64_t count, int64_t rows) {
          for (int64_t a = 0; a < rows; ++a) {
            simd::Add(count, patches + patch + a * run, image + at + a * row);
          }
        },
        [](int64_t) {});
  }

  const Conv2dArgs args_;
  const int threads_;
  const int64_t rows_;                       // output rows of a block
  const int64_t blocks_;                     // per sample
  const int64_t image_;                      // elements
  const int64_t out_image_;                  // elements
  std::vector<std::vector<float>> patches_;  // by part
};

}  // namespace

std::unique_ptr<Conv2dPlan> MakePatchConv2d(const Conv2dArgs& args, int threads) {
  return std::make_unique<PatchConv2d>(args, threads);
}

}  // namespace muster
