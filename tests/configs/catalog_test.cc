// The catalogue and the tiers: the built-in tables are whole, and agree with the prices that were
// published for the tiers.
#include "configs/catalog.h"

#include <gmock/gmock.h>

#include <set>

#include "configs/tiers.h"

namespace muster {
namespace {

using ::testing::HasSubstr;

TEST(Catalog, HasEveryMachineTypeOfTheService) {
  const Catalog catalog = Catalog::BuiltIn();
  for (const char* name : {"standard",
                           "large_model",
                           "complex_model_s",
                           "complex_model_m",
                           "complex_model_l",
                           "standard_gpu",
                           "complex_model_m_gpu",
                           "complex_model_l_gpu",
                           "standard_p100",
                           "complex_model_m_p100",
                           "standard_v100",
                           "large_model_v100",
                           "complex_model_m_v100",
                           "complex_model_l_v100",
                           "cloud_tpu",
                           "n1-standard-4",
                           "n1-standard-96",
                           "n1-highmem-2",
                           "n1-highmem-96",
                           "n1-highcpu-16",
                           "n1-highcpu-96"}) {
    ASSERT_NE(catalog.FindMachineType(name), nullptr) << name;
    EXPECT_TRUE(catalog.FindMachineType(name)->price.has_value()) << name;
  }
  EXPECT_EQ(catalog.FindMachineType("n1-highcpu-8"), nullptr);
  EXPECT_EQ(catalog.FindAccelerator("NVIDIA_TESLA_T4")->price->usd_per_hour, 0.35);
  EXPECT_FALSE(catalog.FindAccelerator("NVIDIA_TESLA_A100")->price.has_value());
}

TEST(Catalog, RegionsCostNearlyWhatTheCataloguesRegionDoes) {
  const Catalog catalog = Catalog::BuiltIn();
  std::set<std::string> seen;
  for (const RegionFactor& factor : catalog.region_factors()) {
    EXPECT_TRUE(seen.insert(factor.family + " " + factor.region).second) << factor.region;
    EXPECT_GT(factor.factor, 0.9) << factor.region;
    EXPECT_LT(factor.factor, 2) << factor.region;
    if (factor.region == "us-central1") {
      EXPECT_EQ(factor.factor, 1);
    }
  }
  EXPECT_TRUE(seen.contains("n1 europe-west4") && seen.contains("g2 us-central1"));
  EXPECT_FALSE(Catalog::Parse("", "", "n1,r,x,2025-03,list\n").ok());
  EXPECT_FALSE(Catalog::Parse("", "", "n1,r,0,2025-03,list\n").ok());
  EXPECT_FALSE(Catalog::Parse("", "", "n1,r,1.1,,list\n").ok());
  EXPECT_FALSE(Catalog::Parse("", "", "n1,r,1.1\n").ok());
}

TEST(Catalog, NamesAreUniqueAndSizesSane) {
  const Catalog catalog = Catalog::BuiltIn();
  std::set<std::string> names;
  for (const MachineType& type : catalog.machine_types()) {
    EXPECT_TRUE(names.insert(type.name).second) << type.name;
    EXPECT_TRUE(type.is_tpu() || (type.vcpus >= 2 && type.memory_gb > 1)) << type.name;
    EXPECT_EQ(type.accelerator.empty(), type.accelerator_count == 0) << type.name;
    if (!type.accelerator.empty()) {
      EXPECT_NE(catalog.FindAccelerator(type.accelerator), nullptr) << type.name;
    }
  }
}

TEST(Catalog, LegacyTypesCostWhatTheirComputeEngineShapesAndAcceleratorsCost) {
  const Catalog catalog = Catalog::BuiltIn();
  for (const MachineType& type : catalog.machine_types()) {
    const MachineType* shape = catalog.FindMachineType(type.shape);
    if (shape == nullptr || shape == &type) continue;
    double usd = shape->price->usd_per_hour;
    if (!type.accelerator.empty()) {
      usd +=
          type.accelerator_count * catalog.FindAccelerator(type.accelerator)->price->usd_per_hour;
    }
    EXPECT_NEAR(type.price->usd_per_hour, usd, 5e-5) << type.name;
    EXPECT_EQ(type.vcpus, shape->vcpus) << type.name;
    EXPECT_EQ(type.memory_gb, shape->memory_gb) << type.name;
  }
}

double TierPrice(ScaleTier tier) {
  const Catalog catalog = Catalog::BuiltIn();
  TrainingInput input;
  input.set_scale_tier(tier);
  double usd = 0;
  for (const Role role : {Role::kMaster, Role::kWorker, Role::kParameterServer, Role::kEvaluator}) {
    const RoleSize size = SizeOf(input, role);
    if (size.count > 0) {
      usd += static_cast<double>(size.count) *
             catalog.FindMachineType(size.machine_type)->price->usd_per_hour;
    }
  }
  return usd;
}

TEST(Tiers, MachinesSumToThePublishedTierPrices) {
  EXPECT_NEAR(TierPrice(BASIC), 0.1900, 1e-9);
  EXPECT_NEAR(TierPrice(STANDARD_1), 1.9880, 1e-9);
  EXPECT_NEAR(TierPrice(PREMIUM_1), 16.5536, 1e-9);
  EXPECT_NEAR(TierPrice(BASIC_GPU), 0.8300, 1e-9);
}

TEST(Tiers, CustomTakesItsSizesFromTheJob) {
  TrainingInput input;
  input.set_scale_tier(CUSTOM);
  input.set_master_type("complex_model_m");
  input.set_worker_type("standard");
  input.set_worker_count(9);
  EXPECT_EQ(SizeOf(input, Role::kMaster).count, 1);
  EXPECT_EQ(SizeOf(input, Role::kWorker).count, 9);
  EXPECT_EQ(SizeOf(input, Role::kWorker).machine_type, "standard");
  EXPECT_EQ(SizeOf(input, Role::kParameterServer).count, 0);
}

std::string ParseError(const char* types, const char* accelerators) {
  return std::string(Catalog::Parse(types, accelerators).status().message());
}

TEST(Catalog, AWrongLineIsNamed) {
  EXPECT_THAT(ParseError("# c\na,b\n", ""),
              HasSubstr("machine_types.csv:2: has 2 cells; write 10"));
  EXPECT_THAT(ParseError("a,odd,x,1,1,,0,1,d,s\n", ""), HasSubstr("a: category 'odd'"));
  EXPECT_THAT(ParseError("a,gce,x,many,1,,0,1,d,s\n", ""), HasSubstr("a, column 4: 'many'"));
  EXPECT_THAT(ParseError("a,gce,x,1,1,,0,-1,d,s\n", ""), HasSubstr("a, column 8: '-1'"));
  EXPECT_THAT(ParseError("a,gce,x,1,1,,0,1,,s\n", ""), HasSubstr("a: a price without its date"));
  EXPECT_THAT(ParseError("", "t,1,2019\n"), HasSubstr("accelerators.csv:1: has 3 cells; write 4"));
}

}  // namespace
}  // namespace muster
