#include "tests/ps/known_models.h"

#include <initializer_list>
#include <string>

namespace muster::ps {
namespace {

// Parameters in the order in which they are added.
class Specs {
 public:
  void Weight(std::vector<int64_t> shape) { Add(std::move(shape), ParamSpec::Kind::kWeight); }
  void WithBias(std::vector<int64_t> shape) {
    const int64_t outputs = shape.back();
    Weight(std::move(shape));
    Weight({outputs});
  }
  void BatchNorm(int64_t channels) {
    for (int i = 0; i < 2; ++i) Weight({channels});  // scale and shift
    for (int i = 0; i < 2; ++i) Add({channels}, ParamSpec::Kind::kStatistic);
  }
  void LayerNorm(int64_t width) {
    for (int i = 0; i < 2; ++i) Weight({width});
  }
  // Fully connected layers from widths[0] to widths[1], and so on.
  void Mlp(std::initializer_list<int64_t> widths) {
    for (const int64_t* w = widths.begin(); w + 1 != widths.end(); ++w) WithBias({w[0], w[1]});
  }
  std::vector<ParamSpec> Take() { return std::move(specs_); }

 private:
  void Add(std::vector<int64_t> shape, ParamSpec::Kind kind) {
    specs_.push_back(
        {.name = "p" + std::to_string(specs_.size()), .shape = std::move(shape), .kind = kind});
  }

  std::vector<ParamSpec> specs_;
};

}  // namespace

std::vector<ParamSpec> Vgg16() {
  Specs specs;
  int64_t channels = 3;
  for (const int64_t out : {64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512}) {
    specs.WithBias({3, 3, channels, out});
    channels = out;
  }
  specs.Mlp({7 * 7 * 512, 4096, 4096, 1000});
  return specs.Take();
}

std::vector<ParamSpec> ResNet50() {
  Specs specs;
  const auto convolution = [&](int64_t kernel, int64_t in, int64_t out) {
    specs.Weight({kernel, kernel, in, out});
    specs.BatchNorm(out);
  };
  convolution(7, 3, 64);
  int64_t channels = 64, width = 64;
  for (const int blocks : {3, 4, 6, 3}) {
    for (int block = 0; block < blocks; ++block) {
      convolution(1, channels, width);
      convolution(3, width, width);
      convolution(1, width, 4 * width);
      if (block == 0) convolution(1, channels, 4 * width);  // the shortcut
      channels = 4 * width;
    }
    width *= 2;
  }
  specs.WithBias({channels, 1000});
  return specs.Take();
}

std::vector<ParamSpec> BertLarge() {
  constexpr int64_t kWidth = 1024;
  Specs specs;
  for (const int64_t rows : {30522, 512, 2}) specs.Weight({rows, kWidth});  // words, places, types
  specs.LayerNorm(kWidth);
  for (int layer = 0; layer < 24; ++layer) {
    for (int i = 0; i < 4; ++i) specs.WithBias({kWidth, kWidth});  // query, key, value, output
    specs.LayerNorm(kWidth);
    specs.Mlp({kWidth, 4 * kWidth, kWidth});
    specs.LayerNorm(kWidth);
  }
  specs.WithBias({kWidth, kWidth});
  return specs.Take();
}

std::vector<ParamSpec> DlrmCriteoKaggle() {
  constexpr int64_t kColumns = 16;
  Specs specs;
  for (const int64_t rows : {1460,  583,  10131227, 2202608, 305, 24,     12517,   633,   3,
                             93145, 5683, 8351593,  3194,    27,  14992,  5461306, 10,    5652,
                             2173,  4,    7046547,  18,      15,  286181, 105,     142572}) {
    specs.Weight({rows, kColumns});
  }
  specs.Mlp({13, 512, 256, 64, kColumns});
  specs.Mlp({27 * 26 / 2 + kColumns, 512, 256, 1});  // the products of all pairs
  return specs.Take();
}

}  // namespace muster::ps
