// Spot machines for workers, on the tests' EC2: shown, rented, taken back, replaced.
#include <fmt/format.h>

#include <csignal>

#include "tests/e2e/aws_fixture.h"

namespace muster::e2e {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST_F(AwsTest, SpotWorkersAreShownWithTheirPricesAndGoWhereTheyAreCheapest) {
  TinyJob job = Job();
  job.workers = 1;
  job.servers = 1;
  std::vector<std::string> words = Words("spot", job);
  words.insert(words.end(), {"--set", "trainingInput.scheduling.strategy=LOW_COST", "--set",
                             "cluster.spot.maxPrice=0.15"});
  Running run(words, false, environment_);
  ASSERT_TRUE(run.WaitFor("3 machines run in")) << run.out();
  EXPECT_THAT(Cloud().SpotMachines(), SizeIs(1));
  const Ended ended = run.Wait();
  ASSERT_EQ(ended.code, 0) << ended.out << ended.err;
  EXPECT_THAT(
      ended.out,
      AllOf(HasSubstr("standard as m6i.xlarge, spot"),
            HasSubstr("m6i.xlarge in us-east-1: $0.0700 an hour in the last day ($0.0600 to "
                      "$0.0800), now least in us-east-1b ($0.0600); on demand $0.1920; not above "
                      "$0.1500 (cluster.spot.maxPrice)"),
            HasSubstr("quota All Standard Spot Instance Requests: 640 vCPUs, 4 needed"),
            HasSubstr("starting 3 machines at $0.45 an hour"),
            HasSubstr("3 machines run in us-east-1b"), HasSubstr("3 machines given back")));
  // For a day nobody has to be asked again.
  (void)Cloud().Asked();
  words.emplace_back("--check");
  EXPECT_THAT(Launch(words).out, HasSubstr("m6i.xlarge in us-east-1: $0.0700"));
  EXPECT_THAT(Cloud().Asked(), IsEmpty());
}

TEST_F(AwsTest, WhereSpotMachinesHaveNoRoomTheNextZoneIsAsked) {
  TinyJob job = Job();
  job.workers = 1;
  std::vector<std::string> words = Words("spot_room", job);
  words.insert(words.end(), {"--set", "trainingInput.scheduling.strategy=LOW_COST"});
  Running run(words, false, environment_);
  ASSERT_TRUE(run.WaitFor("starting 2 machines")) << run.out();
  Cloud().SetFaults(
      R"([{"action": "RunInstances", "spot": true, "code": "InsufficientInstanceCapacity", "status": 500}])");
  const Ended ended = run.Wait();
  EXPECT_EQ(ended.code, 0) << ended.out << ended.err;
  EXPECT_THAT(ended.out, AllOf(HasSubstr("us-east-1b: An error occurred (InsufficientInstance"),
                               HasSubstr("2 machines run in us-east-1c")));
}

TEST_F(AwsTest, ASpotMachineThatIsTakenBackIsToldOfAndAnotherIsAskedFor) {
  TinyJob job = Job();
  job.workers = 1;
  job.steps = 100'000;
  std::vector<std::string> words = Words("taken_back", job);
  words.insert(words.end(), {"--set", "trainingInput.scheduling.strategy=LOW_COST"});
  Running run(words, false, environment_);
  ASSERT_TRUE(run.WaitFor("/100,000")) << run.out();
  Cloud().TakeBack(Cloud().SpotMachines().front(), /*notice_s=*/60);
  EXPECT_TRUE(run.WaitFor("worker-0: its machine is taken back at 20")) << run.out();
  EXPECT_TRUE(run.WaitFor("worker-0 is away")) << run.out();
  run.Signal(SIGINT);
  const Ended ended = run.Wait();
  ExpectForHumans(ended);
}

// One with notice, one without a word; meanwhile the others compute its part. Both jobs are stopped
// when that is over, however fast they are: what both know of one step is the same.
TEST_F(AwsTest, SpotMachinesThatAreTakenBackAreReplacedAndTheSameIsLearnt) {
  TinyJob job = Job();
  job.workers = 2;
  job.servers = 1;
  job.steps = 1'000'000;
  job.evaluate_every = job.save_every = 500;
  TinyJob local = job;
  local.cluster = "";
  const std::string there = NewFolder("there");
  std::vector<std::string> words = LaunchWords(there, job);
  words.insert(words.end(), {"--yes", "--set", "trainingInput.scheduling.strategy=LOW_COST"});
  Running run(words, false, environment_);
  ASSERT_TRUE(run.WaitFor("/1,000,000")) << run.out();
  const std::vector<std::string> spot = Cloud().SpotMachines();
  ASSERT_THAT(spot, SizeIs(2));
  Cloud().TakeBack(spot[0], /*notice_s=*/5);
  ASSERT_TRUE(run.WaitFor("is started again")) << run.out();
  Cloud().TakeBack(spot[1], std::nullopt);
  ASSERT_TRUE(run.WaitFor("is started again")) << run.out();
  ASSERT_TRUE(run.WaitFor("joined")) << run.out();
  run.Signal(SIGINT);
  const Ended ended = run.Wait();
  ASSERT_EQ(ended.code, 130) << ended.out << ended.err;
  ExpectForHumans(ended);
  EXPECT_THAT(ended.out, AllOf(HasSubstr("its machine is taken back at 20"),
                               HasSubstr("another machine runs"), HasSubstr("worker-0 is away"),
                               HasSubstr("worker-1 is away"), HasSubstr("machines given back")));
  ExpectSameAsUndisturbed(there, local);
}

}  // namespace
}  // namespace muster::e2e
