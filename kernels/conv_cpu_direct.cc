// Convolution by oneDNN's direct kernels: images stay [n, h, w, channels], the weights are put into
// the order that a kernel wants and their gradient is put back.
#include <algorithm>
#include <cstring>
#include <dnnl.hpp>
#include <map>
#include <optional>
#include <vector>

#include "kernels/op_cpu.h"
#include "kernels/parallel_cpu.h"
#include "telemetry/check.h"

namespace muster {
namespace {

using dnnl::memory;
using Tag = memory::format_tag;

// One direction for one number of samples.
struct Kernel {
  dnnl::primitive primitive;
  memory weights;  // in the kernel's order
};

class DirectConv2d final : public Conv2dPlan {
 public:
  DirectConv2d(const Conv2dArgs& args, int threads)
      : args_(args),
        threads_(threads),
        engine_(dnnl::engine::kind::cpu, 0),
        stream_(engine_),
        stride_({args.window.stride.h, args.window.stride.w}),
        pad_before_({args.window.pad.h, args.window.pad.w}),
        pad_after_({PadAfter(args.window.in.h, args.window.kernel.h, args.window.stride.h,
                             args.window.pad.h, args.window.out.h),
                    PadAfter(args.window.in.w, args.window.kernel.w, args.window.stride.w,
                             args.window.pad.w, args.window.out.w)}),
        zeros_(static_cast<size_t>(args.out_channels)),
        unwanted_(zeros_) {}

  // False when oneDNN has only its reference implementation for some direction.
  bool IsFast() {
    const auto fast = [](const char* name) { return std::strncmp(name, "ref", 3) != 0; };
    return fast(ForwardDesc(2).impl_info_str()) && fast(DataDesc(2).impl_info_str()) &&
           fast(WeightsDesc(2).impl_info_str());
  }

  void Forward(Stream&, int64_t n, const float* x, const float* w, const float* bias,
               float* y) override {
    const ThreadScope scope(threads_);
    Kernel& kernel = Find(
        forward_, n, [&] { return ForwardDesc(n); },
        [](const auto& desc) { return desc.weights_desc(); });
    Reorder(Plain(w), kernel.weights);
    Run(kernel, {{DNNL_ARG_SRC, Image(In(n), x)},
                 {DNNL_ARG_WEIGHTS, kernel.weights},
                 {DNNL_ARG_BIAS, Bias(bias)},
                 {DNNL_ARG_DST, Image(Out(n), y)}});
  }

  void BackwardData(Stream&, int64_t n, const float* dy, const float* w, float* dx) override {
    const ThreadScope scope(threads_);
    Kernel& kernel = Find(
        data_, n, [&] { return DataDesc(n); },
        [](const auto& desc) { return desc.weights_desc(); });
    Reorder(Plain(w), kernel.weights);
    Run(kernel, {{DNNL_ARG_DIFF_DST, Image(Out(n), dy)},
                 {DNNL_ARG_WEIGHTS, kernel.weights},
                 {DNNL_ARG_DIFF_SRC, Image(In(n), dx)}});
  }

  void BackwardWeights(Stream&, int64_t n, const float* x, const float* dy, float* dw,
                       float* dbias) override {
    const ThreadScope scope(threads_);
    Kernel& kernel = Find(
        weights_, n, [&] { return WeightsDesc(n); },
        [](const auto& desc) { return desc.diff_weights_desc(); });
    Run(kernel, {{DNNL_ARG_SRC, Image(In(n), x)},
                 {DNNL_ARG_DIFF_DST, Image(Out(n), dy)},
                 {DNNL_ARG_DIFF_WEIGHTS, kernel.weights},
                 {DNNL_ARG_DIFF_BIAS, Bias(dbias != nullptr ? dbias : unwanted_.data())}});
    memory plain = Plain(dw);
    Reorder(kernel.weights, plain);
  }

 private:
  using Kernels = std::map<int64_t, Kernel>;  // by number of samples
  static constexpr size_t kMaxKernels = 8;

  static int64_t PadAfter(int64_t in, int64_t kernel, int64_t stride, int64_t pad, int64_t out) {
    return std::max<int64_t>(0, (out - 1) * stride + kernel - in - pad);
  }

  static memory::desc Desc(const memory::dims& dims, Tag tag) {
    return {dims, memory::data_type::f32, tag};
  }
  memory::desc In(int64_t n) const {
    return Desc({n, args_.in_channels, args_.window.in.h, args_.window.in.w}, Tag::nhwc);
  }
  memory::desc Out(int64_t n) const {
    return Desc({n, args_.out_channels, args_.window.out.h, args_.window.out.w}, Tag::nhwc);
  }
  memory::desc WeightsAs(Tag tag) const {
    return Desc(
        {args_.out_channels, args_.in_channels, args_.window.kernel.h, args_.window.kernel.w}, tag);
  }
  memory::desc BiasDesc() const { return Desc({args_.out_channels}, Tag::x); }
  memory Image(const memory::desc& desc, const float* data) const {
    return {desc, engine_, const_cast<float*>(data)};
  }
  memory Bias(const float* bias) const {
    return {BiasDesc(), engine_, const_cast<float*>(bias != nullptr ? bias : zeros_.data())};
  }
  memory Plain(const float* weights) const {
    return {WeightsAs(Tag::hwio), engine_, const_cast<float*>(weights)};
  }

  dnnl::convolution_forward::primitive_desc ForwardDesc(int64_t n) const {
    return {{dnnl::prop_kind::forward_training, dnnl::algorithm::convolution_direct, In(n),
             WeightsAs(Tag::any), BiasDesc(), Out(n), stride_, pad_before_, pad_after_},
            engine_};
  }
  dnnl::convolution_backward_data::primitive_desc DataDesc(int64_t n) const {
    return {{dnnl::algorithm::convolution_direct, In(n), WeightsAs(Tag::any), Out(n), stride_,
             pad_before_, pad_after_},
            engine_,
            ForwardDesc(n)};
  }
  dnnl::convolution_backward_weights::primitive_desc WeightsDesc(int64_t n) const {
    return {{dnnl::algorithm::convolution_direct, In(n), WeightsAs(Tag::any), BiasDesc(), Out(n),
             stride_, pad_before_, pad_after_},
            engine_,
            ForwardDesc(n)};
  }

  template <class MakeDesc, class WeightsOf>
  Kernel& Find(Kernels& kernels, int64_t n, const MakeDesc& make, const WeightsOf& weights_of) {
    const auto found = kernels.find(n);
    if (found != kernels.end()) return found->second;
    if (kernels.size() == kMaxKernels) kernels.erase(kernels.begin());
    try {
      const auto desc = make();
      return kernels.emplace(n, Kernel{dnnl::primitive(desc), memory(weights_of(desc), engine_)})
          .first->second;
    } catch (const dnnl::error& error) {
      CheckFailed(__FILE__, __LINE__, error.what());
    }
  }

  void Reorder(memory from, memory to) {
    try {
      dnnl::reorder(from, to).execute(stream_, from, to);
      stream_.wait();
    } catch (const dnnl::error& error) {
      CheckFailed(__FILE__, __LINE__, error.what());
    }
  }

  void Run(const Kernel& kernel, const std::unordered_map<int, memory>& args) {
    try {
      kernel.primitive.execute(stream_, args);
      stream_.wait();
    } catch (const dnnl::error& error) {
      CheckFailed(__FILE__, __LINE__, error.what());
    }
  }

  const Conv2dArgs args_;
  const int threads_;
  const dnnl::engine engine_;
  dnnl::stream stream_;
  const memory::dims stride_, pad_before_, pad_after_;
  const std::vector<float> zeros_;  // in the place of no bias
  std::vector<float> unwanted_;     // where the gradient of none goes
  Kernels forward_, data_, weights_;
};

}  // namespace

std::unique_ptr<Conv2dPlan> MakeDirectConv2d(const Conv2dArgs& args, int threads) {
  try {
    const ThreadScope scope(threads);
    auto plan = std::make_unique<DirectConv2d>(args, threads);
    if (plan->IsFast()) return plan;
  } catch (const dnnl::error&) {
    // Not implemented for this shape.
  }
  return nullptr;
}

}  // namespace muster
