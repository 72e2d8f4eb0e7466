#include "worker/onnx/layers.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "telemetry/check.h"

namespace muster::worker {
namespace {

using Shape = OnnxBuilder::Shape;
constexpr int64_t kBatch = OnnxBuilder::kBatch;

// What the graph holds between two layers. ONNX wants images with the channels first; elements are
// put back into our order only where somebody looks.
struct Flow {
  std::string value;
  Shape image;  // [height, width, channels] when the value is [batch, channels, height, width];
                // empty when it is [batch, elements]
};

Shape WithBatch(const Shape& shape) {
  Shape all = {kBatch};
  all.insert(all.end(), shape.begin(), shape.end());
  return all;
}

int64_t NumElements(const Shape& shape) {
  int64_t n = 1;
  for (const int64_t d : shape) n *= d;
  return n;
}

// One layer on its way into the graph.
class LayerNodes {
 public:
  LayerNodes(const LayerDescription& layer, const LayerWeights& weights, OnnxBuilder& onnx)
      : layer_(layer), weights_(weights), onnx_(onnx) {}

  Flow Dense(const Flow& in) {
    const std::string matrix = Constant(0);
    return {onnx_.AddNode("Gemm", layer_.name, {Flat(in), matrix, Constant(1)})};
  }

  Flow Conv2d(const Flow& in) {
    const ps::ParamSpec& filter = Spec(0);
    CHECK_EQ(filter.shape.size(), 4U);
    const Shape kernel = {filter.shape[0], filter.shape[1]};
    CHECK_EQ(filter.shape[2], layer_.input_shape.at(2));
    const std::string image = ChannelsFirst(in);
    std::vector<std::string> inputs = {image, OihwFilter(filter)};
    if (layer_.params.size() > 1) inputs.push_back(Constant(1));
    return {onnx_.AddNode("Conv", layer_.name, inputs, Window(kernel)), layer_.output_shape};
  }

  Flow MaxPool(const Flow& in) {
    const Shape kernel = {Number("window_h"), Number("window_w")};
    return {onnx_.AddNode("MaxPool", layer_.name, {ChannelsFirst(in)}, Window(kernel)),
            layer_.output_shape};
  }

  Flow Relu(const Flow& in) { return Elementwise("Relu", in); }
  Flow Tanh(const Flow& in) { return Elementwise("Tanh", in); }

  Flow Nothing(const Flow& in) {
    // Another shape of the same elements: only the row-major order means something.
    if (layer_.input_shape == layer_.output_shape) return in;
    return {Flat(in)};
  }

  Flow BatchNorm(const Flow& in) {
    const bool image = layer_.input_shape.size() == 3;
    CHECK(image || layer_.input_shape.size() == 1);
    const std::string x = image ? ChannelsFirst(in) : Flat(in);
    const std::string gain = Constant(0), offset = Constant(1), mean = Constant(2);
    return {onnx_.AddNode("BatchNormalization", layer_.name, {x, gain, offset, mean, Constant(3)},
                          {{"epsilon", layer_.epsilon}}),
            image ? layer_.output_shape : Shape()};
  }

  // In pieces: LayerNormalization came with a later opset.
  Flow LayerNorm(const Flow& in) {
    const std::string& name = layer_.name;
    const std::string x = Flat(in);
    const std::string away = onnx_.AddNode("Sub", name + ":away", {x, Mean(name + ":mean", x)});
    const std::string squares = onnx_.AddNode("Mul", name + ":squares", {away, away});
    const std::string epsilon = onnx_.AddConstant(name + ":epsilon", {1}, {&layer_.epsilon, 1});
    const std::string variance =
        onnx_.AddNode("Add", name + ":variance", {Mean(name + ":mean_square", squares), epsilon});
    const std::string deviation = onnx_.AddNode("Sqrt", name + ":deviation", {variance});
    const std::string z = onnx_.AddNode("Div", name + ":z", {away, deviation});
    const std::string scaled = onnx_.AddNode("Mul", name + ":scaled", {z, Constant(0)});
    return {onnx_.AddNode("Add", name, {scaled, Constant(1)})};
  }

  // Singular value decomposition filter: a filter over the features of each frame, then one over
  // the frames; `rank` of them make a unit.
  //   y_u = b_u + Σ_r Σ_t wt[t, f] Σ_i x[t, i] wf[i, f],  f = u · rank + r
  Flow Svdf(const Flow& in) {
    const Shape& frames = layer_.input_shape;
    const int64_t rank = Number("rank");
    const int64_t units = NumElements(layer_.output_shape);
    const std::string& name = layer_.name;
    std::string x = onnx_.AddReshape(name + ":frames", Flat(in), WithBatch(frames));
    x = onnx_.AddNode("MatMul", name + ":features", {x, Constant(0)});  // [batch, frames, filters]
    x = onnx_.AddNode("Mul", name + ":time", {x, Constant(1)});
    x = Sum(name + ":filters", x, 1);  // [batch, filters]
    x = onnx_.AddReshape(name + ":ranks", x, {kBatch, units, rank});
    x = Sum(name + ":units", x, 2);
    return {onnx_.AddNode("Add", name, {x, Constant(2)})};
  }

 private:
  Flow Elementwise(const char* op, const Flow& in) {
    return {onnx_.AddNode(op, layer_.name, {in.value}), in.image};
  }

  int64_t Number(const std::string& name) const {
    const auto found = layer_.numbers.find(name);
    CHECK(found != layer_.numbers.end());
    return found->second;
  }

  ps::ParamId Id(size_t i) const {
    const auto& specs = weights_.table.specs();
    const auto found = std::find_if(specs.begin(), specs.end(), [&](const ps::ParamSpec& spec) {
      return spec.name == layer_.params.at(i);
    });
    CHECK(found != specs.end());
    return static_cast<ps::ParamId>(found - specs.begin());
  }
  const ps::ParamSpec& Spec(size_t i) const { return weights_.table.specs()[Id(i)]; }
  std::span<const float> Values(size_t i) const {
    return weights_.arena.subspan(weights_.table.offset(Id(i)), Spec(i).size());
  }

  // The layer's i-th parameter as it is.
  std::string Constant(size_t i) {
    return onnx_.AddConstant(Spec(i).name, Spec(i).shape, Values(i));
  }

  // [kh, kw, in, out] as [out, in, kh, kw].
  std::string OihwFilter(const ps::ParamSpec& spec) {
    const int64_t pixels = spec.shape[0] * spec.shape[1];
    const int64_t in = spec.shape[2];
    const int64_t out = spec.shape[3];
    const std::span<const float> from = Values(0);
    std::vector<float> to(from.size());
    for (int64_t p = 0; p < pixels; ++p) {
      for (int64_t i = 0; i < in; ++i) {
        for (int64_t o = 0; o < out; ++o) {
          to[(o * in + i) * pixels + p] = from[(p * in + i) * out + o];
        }
      }
    }
    return onnx_.AddConstant(spec.name, {out, in, spec.shape[0], spec.shape[1]}, to);
  }

  // Kernel, strides and explicit padding. SAME: ⌈in / stride⌉ outputs, what is missing at the
  // borders is split in two, the odd one at the end.
  OnnxBuilder::Attributes Window(const Shape& kernel) const {
    const Shape strides = {Number("stride_h"), Number("stride_w")};
    Shape pads(4, 0);  // top, left, bottom, right
    for (int d = 0; d < 2; ++d) {
      const int64_t in = layer_.input_shape.at(d);
      const int64_t out = layer_.output_shape.at(d);
      if (Number("same") == 0) {
        CHECK_EQ(out, (in - kernel[d]) / strides[d] + 1);
        continue;
      }
      CHECK_EQ(out, (in + strides[d] - 1) / strides[d]);
      const int64_t missing = std::max<int64_t>(0, (out - 1) * strides[d] + kernel[d] - in);
      pads[d] = missing / 2;
      pads[d + 2] = missing - missing / 2;
    }
    return {{"kernel_shape", kernel}, {"strides", strides}, {"pads", pads}};
  }

  // The input as [batch, elements].
  std::string Flat(const Flow& in) {
    if (in.image.empty()) return in.value;
    CHECK_EQ(NumElements(in.image), NumElements(layer_.input_shape));
    std::string x = in.value;
    if (in.image[2] > 1) {
      x = onnx_.AddNode("Transpose", layer_.name + ":channels_last", {x},
                        {{"perm", std::vector<int64_t>{0, 2, 3, 1}}});
    }
    return onnx_.AddReshape(layer_.name + ":flat", x, {kBatch, NumElements(in.image)});
  }

  // The input as [batch, channels, height, width].
  std::string ChannelsFirst(const Flow& in) {
    const Shape& shape = layer_.input_shape;
    CHECK_EQ(shape.size(), 3U);
    if (in.image == shape) return in.value;
    CHECK(in.image.empty());
    const std::string& name = layer_.name;
    if (shape[2] == 1) {  // both orders are the same
      return onnx_.AddReshape(name + ":image", in.value, {kBatch, 1, shape[0], shape[1]});
    }
    const std::string image = onnx_.AddReshape(name + ":image", in.value, WithBatch(shape));
    return onnx_.AddNode("Transpose", name + ":channels_first", {image},
                         {{"perm", std::vector<int64_t>{0, 3, 1, 2}}});
  }

  // Of each sample's elements: [batch, 1].
  std::string Mean(const std::string& name, const std::string& x) {
    return onnx_.AddNode("ReduceMean", name, {x}, {{"axes", std::vector<int64_t>{1}}});
  }

  std::string Sum(const std::string& name, const std::string& x, int64_t axis) {
    const std::string axes = onnx_.AddIntegers(name + ":axes", std::vector{axis});
    return onnx_.AddNode("ReduceSum", name, {x, axes}, {{"keepdims", int64_t{0}}});
  }

  const LayerDescription& layer_;
  const LayerWeights& weights_;
  OnnxBuilder& onnx_;
};

struct Kind {
  const char* name;
  Flow (LayerNodes::*add)(const Flow& in);
};

// A new kind of layer is a member of LayerNodes and a line here.
constexpr Kind kKinds[] = {
    {"dense", &LayerNodes::Dense},
    {"conv2d", &LayerNodes::Conv2d},
    {"max_pool", &LayerNodes::MaxPool},
    {"relu", &LayerNodes::Relu},
    {"tanh", &LayerNodes::Tanh},
    {"dropout", &LayerNodes::Nothing},
    {"reshape", &LayerNodes::Nothing},
    {"svdf", &LayerNodes::Svdf},
    {"batch_norm", &LayerNodes::BatchNorm},
    {"layer_norm", &LayerNodes::LayerNorm},
};

const Kind* FindKind(const std::string& name) {
  for (const Kind& kind : kKinds) {
    if (kind.name == name) return &kind;
  }
  return nullptr;
}

}  // namespace

absl::StatusOr<std::string> AddLayerNodes(std::span<const LayerDescription> layers,
                                          const LayerWeights& weights, const std::string& input,
                                          OnnxBuilder& onnx) {
  if (layers.empty()) return absl::UnimplementedError("the model does not describe its layers");
  Flow flow{input};
  for (const LayerDescription& layer : layers) {
    const Kind* kind = FindKind(layer.kind);
    if (kind == nullptr) {
      return absl::UnimplementedError(fmt::format(
          "layer {} is of the kind \"{}\", which has no ONNX form yet", layer.name, layer.kind));
    }
    flow = (LayerNodes(layer, weights, onnx).*kind->add)(flow);
  }
  if (flow.image.empty()) return flow.value;
  // The last layer left an image: back into our order.
  const LayerDescription end{"reshape", "output", flow.image, {NumElements(flow.image)}, {}, {}};
  return LayerNodes(end, weights, onnx).Nothing(flow).value;
}

}  // namespace muster::worker
