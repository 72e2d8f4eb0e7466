// Well-known models are shared out evenly over any number of servers: what a server keeps, and what
// it receives and sends in a step, is at most 1.05 times the mean.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <numeric>

#include "ps/param.h"
#include "tests/ps/known_models.h"

namespace muster::ps {
namespace {

struct Known {
  std::string name;
  std::vector<ParamSpec> (*specs)();
  int64_t weights;  // elements, as its authors count them
};

const std::vector<Known> kModels = {
    {"Vgg16", &Vgg16, 138'357'544},
    {"ResNet50", &ResNet50, 25'557'032},
    {"BertLarge", &BertLarge, 335'141'888},
    {"DlrmCriteoKaggle", &DlrmCriteoKaggle, 540'677'217},
};

// The model with a codec for all its weights; "": none.
ParamTable TableOf(const Known& model, const std::string& codec) {
  std::vector<ParamSpec> specs = model.specs();
  for (ParamSpec& spec : specs) {
    if (codec.empty() || spec.kind != ParamSpec::Kind::kWeight) continue;
    spec.codec = *MakeCodec(codec);
  }
  return *ParamTable::Make(std::move(specs));
}

double Imbalance(const Partition& partition, const std::vector<int64_t>& bytes) {
  std::vector<int64_t> load(static_cast<size_t>(partition.num_servers), 0);
  for (size_t i = 0; i < bytes.size(); ++i) {
    load[static_cast<size_t>(partition.server[i])] += bytes[i];
  }
  return static_cast<double>(*std::max_element(load.begin(), load.end())) * partition.num_servers /
         static_cast<double>(std::accumulate(load.begin(), load.end(), int64_t{0}));
}

class BalanceTest : public testing::TestWithParam<Known> {};

TEST_P(BalanceTest, TheListIsTheModels) {
  int64_t weights = 0;
  for (const ParamSpec& spec : GetParam().specs()) {
    if (spec.kind == ParamSpec::Kind::kWeight) weights += spec.size();
  }
  EXPECT_EQ(weights, GetParam().weights);
}

TEST_P(BalanceTest, ServersKeepAndCarryTheSame) {
  for (const std::string codec : {"", "fp16", "int8", "1bit", "topk"}) {
    const ParamTable table = TableOf(GetParam(), codec);
    for (int servers = 2; servers <= 16; ++servers) {
      SCOPED_TRACE(testing::Message() << servers << " servers, codec '" << codec << "'");
      const Partition partition = MakePartition(table, servers);
      std::vector<int64_t> kept, carried;  // bytes; what is kept is what is pulled
      for (const ParamSlice& slice : partition.slices) {
        kept.push_back(slice.size * static_cast<int64_t>(sizeof(float)));
        carried.push_back(kept.back() + static_cast<int64_t>(PushBytes(table, slice)));
      }
      EXPECT_LE(Imbalance(partition, kept), 1.05);
      EXPECT_LE(Imbalance(partition, carried), 1.05);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, BalanceTest, testing::ValuesIn(kModels),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace muster::ps
