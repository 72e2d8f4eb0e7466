// What is asked for and what it costs, by the plan.
#include "cluster/planned_machines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace muster::cluster {
namespace {

using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::StartsWith;

Plan ThreeRoles() {
  Plan plan;
  PlanRole master{.role = Role::kMaster, .count = 1, .machine_type = "complex_model_m"};
  master.rented_type = "m5.xlarge";
  master.usd_per_hour = 0.2;
  master.usd_by_region = {{"us-east-1", 0.19}};
  PlanRole workers{.role = Role::kWorker, .count = 3, .machine_type = "standard_gpu"};
  workers.accelerator_count = 1;
  workers.spot = true;
  workers.usd_per_hour = 0.5;
  workers.usd_by_region = {{"us-east-1", 1.5}};
  PlanRole evaluator{.role = Role::kEvaluator, .count = 1, .machine_type = "standard_gpu"};
  evaluator.accelerator_count = 1;
  plan.roles = {master, workers, evaluator};
  return plan;
}

Cluster Aws() {
  Cluster cluster;
  cluster.set_provider(Cluster::AWS);
  cluster.mutable_spot()->set_max_price(0.7);
  return cluster;
}

TEST(OrderMachinesTest, AsksForWhatIsRentedOrElseForTheTypeThatTheFileNames) {
  const MachineOrder order = OrderMachines(ThreeRoles(), Aws(), "job", "me@here", 60'000);
  EXPECT_THAT(order.groups, ElementsAre(Field(&MachineGroup::type, "m5.xlarge"),
                                        Field(&MachineGroup::type, "standard_gpu")))
      << "and for none for an evaluator";
  EXPECT_EQ(order.groups[1].count, 3);
  EXPECT_EQ(order.owner, "me@here");
}

TEST(OrderMachinesTest, OnlySpotMachinesHaveAPriceThatIsBid) {
  const MachineOrder order = OrderMachines(ThreeRoles(), Aws(), "job", "", 60'000);
  EXPECT_THAT(order.groups, ElementsAre(Field(&MachineGroup::max_price, 0),
                                        Field(&MachineGroup::max_price, 0.7)));
}

TEST(OrderMachinesTest, TheProviderEndsThemHalfAnHourAfterTheJobEndsItself) {
  EXPECT_EQ(OrderMachines(ThreeRoles(), Aws(), "job", "", 60'000).lifetime_s, 60 + 1'800);
}

TEST(OrderMachinesTest, EachRunHasANameOfItsOwn) {
  const auto run = [] { return OrderMachines(ThreeRoles(), Aws(), "job", "", 0).run; };
  const std::string one = run(), other = run();
  EXPECT_THAT(one, StartsWith("mu"));
  EXPECT_NE(one, other);
}

TEST(PlannedPriceTest, IsThatOfTheRegionWhereTheMachinesAre) {
  EXPECT_EQ(PlannedPrice(ThreeRoles(), Aws(), Role::kMaster, "us-east-1"), 0.19);
  EXPECT_EQ(PlannedPrice(ThreeRoles(), Aws(), Role::kMaster, "eu-west-1"), 0.2);
}

TEST(PlannedPriceTest, OfSpotMachinesIsWhatThePlanFoundNotTheRegionsOnDemandPrice) {
  EXPECT_EQ(PlannedPrice(ThreeRoles(), Aws(), Role::kWorker, "us-east-1"), 0.5);
}

TEST(PlannedPriceTest, IsNothingWhereNobodyBillsTheUserAndForRolesThatAreNotPlanned) {
  Cluster slurm;
  slurm.set_provider(Cluster::SLURM);
  EXPECT_EQ(PlannedPrice(ThreeRoles(), slurm, Role::kMaster, "us-east-1"), 0);
  EXPECT_EQ(PlannedPrice(ThreeRoles(), Aws(), Role::kParameterServer, "us-east-1"), 0);
}

TEST(ComputesOnGpusTest, OnlyTrainersOnMachinesThatHaveSome) {
  EXPECT_TRUE(ComputesOnGpus(ThreeRoles(), Role::kWorker));
  EXPECT_FALSE(ComputesOnGpus(ThreeRoles(), Role::kMaster)) << "has none";
  EXPECT_FALSE(ComputesOnGpus(ThreeRoles(), Role::kEvaluator)) << "does not train";
  EXPECT_FALSE(ComputesOnGpus(ThreeRoles(), Role::kParameterServer)) << "is not planned";
}

TEST(CountMachinesTest, OneIsNotSeveral) {
  EXPECT_EQ(CountMachines(1), "1 machine");
  EXPECT_EQ(CountMachines(0), "0 machines");
}

}  // namespace
}  // namespace muster::cluster
