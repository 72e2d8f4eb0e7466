// Plans: the text of --check for the classic file and for every tier, and the exit codes of the
// command.
#include "cluster/plan.h"

#include <gmock/gmock.h>

#include <cstdio>

#include "cluster/command.h"
#include "tests/cluster/toy_module.h"
#include "tests/harness/golden.h"

namespace muster::cluster {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

struct Result {
  int code = 0;
  std::string out, err;
};

std::string Contents(std::FILE* file) {
  std::string text;
  std::rewind(file);
  for (int c; (c = std::fgetc(file)) != EOF;) text += static_cast<char>(c);
  std::fclose(file);
  return text;
}

using PricePlanAs = std::function<void(const Job&, const LaunchFlags&, Plan*)>;

Result Launch(const std::vector<std::string>& words, int job_code = 0,
              const PricePlanAs& price_plan = nullptr) {
  CommandContext context;
  context.price_plan = price_plan;
  context.words = words;
  context.out = std::tmpfile();
  context.err = std::tmpfile();
  context.resolve.find_module = FindToy;
  const RunJob run = [=](const ResolvedJob&, const Plan&, const LaunchFlags&) { return job_code; };
  const std::vector<Command> commands = {
      {"", "train", [&](const CommandContext& c) { return RunTrain(c, run); }},
      {"predict", "classify clips",
       [](const CommandContext& c) { return static_cast<int>(c.words.size()); }}};
  Result result;
  result.code = RunCommand(commands, context);
  result.out = Contents(context.out);
  result.err = Contents(context.err);
  return result;
}

void ExpectPlan(const std::string& golden, std::vector<std::string> words,
                const PricePlanAs& price_plan = nullptr) {
  SCOPED_TRACE(golden);
  words.insert(words.end(), {"--module-name", "toy.train", "--job-dir", "jobs/plan", "--check"});
  const Result result = Launch(words, 0, price_plan);
  EXPECT_EQ(result.code, 0);
  EXPECT_EQ(result.err, "");
  ExpectGolden("tests/cluster/plans/" + golden + ".txt", result.out);
}

TEST(Plan, TheClassicNineWorkerFile) { ExpectPlan("custom", {"--config", "configs/custom.yaml"}); }

TEST(Plan, EveryTier) {
  for (const char* tier : {"basic", "standard-1", "premium-1", "basic-gpu"}) {
    ExpectPlan(tier, {"--scale-tier", tier});
  }
}

TEST(Plan, EverythingThatIsDoneOtherwise) {
  ExpectPlan("substituted",
             {"--scale-tier=custom", "--master-machine-type=n1-standard-8", "--master-accelerator",
              "count=1,type=nvidia-tesla-t4", "--worker-machine-type=n1-highcpu-16",
              "--worker-count=2", "--worker-accelerator=count=2,type=nvidia-tesla-a100",
              "--region=us-central1", "--consistency=SSP", "--staleness=3", "--optimizer=adam",
              "--set", "training.chiefTrains=false", "--evaluator-machine-type=n1-standard-4",
              "--evaluator-count=1", "--package-path=trainer", "--staging-bucket=gs://b"});
}

TEST(Plan, WhatIsRentedOnAws) {
  ExpectPlan("aws", {"--scale-tier=custom", "--provider=AWS", "--region=eu-central-1",
                     "--master-machine-type=complex_model_m_gpu", "--worker-count=4",
                     "--worker-machine-type=standard_v100", "--parameter-server-count=2",
                     "--parameter-server-machine-type=large_model", "--max-running-time=36000s"});
}

TEST(Plan, WhatIsRentedOnGcp) {
  ExpectPlan("gcp", {"--scale-tier=custom", "--provider=GCP", "--region=europe-west4",
                     "--master-machine-type=complex_model_m_gpu", "--worker-count=4",
                     "--worker-machine-type=standard_v100", "--parameter-server-count=2",
                     "--parameter-server-machine-type=large_model", "--max-running-time=36000s"});
}

TEST(Plan, RegionsOfComputeEngineByTheBuildsTable) {
  ExpectPlan(
      "gcp-regions",
      {"--scale-tier=custom", "--provider=GCP", "--master-machine-type=standard",
       "--worker-count=4", "--worker-machine-type=standard_v100", "--max-running-time=36000s",
       "--set", "cluster.gcp={regions: [europe-west4, us-east1], zones: [europe-west2-a]}"});
}

TEST(Plan, SpotWorkersAtThePricesOfTheLastDay) {
  const std::vector<std::string> words = {"--scale-tier=custom",
                                          "--provider=AWS",
                                          "--region=eu-central-1",
                                          "--master-machine-type=m6i.xlarge",
                                          "--worker-count=4",
                                          "--worker-machine-type=g5.xlarge",
                                          "--parameter-server-count=1",
                                          "--parameter-server-machine-type=r6i.xlarge",
                                          "--max-running-time=36000s",
                                          "--set",
                                          "trainingInput.scheduling.strategy=LOW_COST",
                                          "--set",
                                          "cluster.spot.maxPrice=0.7"};
  const auto price = [](const std::string& zone, int64_t since_ms, double usd) {
    return SpotPrice{"g5.xlarge", zone.substr(0, zone.size() - 1), zone, since_ms, usd};
  };
  ExpectPlan("aws-spot", words, [&](const Job&, const LaunchFlags&, Plan* plan) {
    ReckonWithSpot(
        std::vector<SpotPrice>{price("eu-central-1a", 1, 0.4), price("eu-central-1b", 2, 0.38),
                               price("eu-central-1a", 3, 0.42)},
        plan);
  });
  ExpectPlan("aws-spot-unknown", words, [&](const Job&, const LaunchFlags&, Plan* plan) {
    ReckonWithSpot(absl::UnauthenticatedError("log in: aws configure"), plan);
  });
}

TEST(Plan, TheCheapestRegionOfThoseThatAreAllowed) {
  const std::vector<std::string> words = {
      "--scale-tier=custom",
      "--provider=AWS",
      "--master-machine-type=m6i.xlarge",
      "--worker-count=2",
      "--worker-machine-type=g5.xlarge",
      "--max-running-time=36000s",
      "--set",
      "cluster.aws.regions=[eu-central-1, us-west-2, sa-east-1]"};
  const RegionPrices told = {.prices = {{"m6i.xlarge", "us-east-1", 0.19},
                                        {"g5.xlarge", "us-east-1", 1},
                                        {"m6i.xlarge", "us-east-2", 0.18},
                                        {"g5.xlarge", "us-east-2", 1},
                                        {"m6i.xlarge", "us-west-2", 0.2},
                                        {"g5.xlarge", "us-west-2", 1},
                                        {"m6i.xlarge", "eu-central-1", 0.23},
                                        {"g5.xlarge", "eu-central-1", 1.25},
                                        {"m6i.xlarge", "sa-east-1", 0.1}},
                             .asked_ms = 1'795'305'600'000};
  const auto reckon = [&](const Job&, const LaunchFlags&, Plan* plan) {
    ReckonWithOnDemand(told, plan);
  };
  ExpectPlan("aws-regions", words, reckon);
  const auto text = [&](const std::string& regions, const PricePlanAs& price) {
    std::vector<std::string> more = words;
    more.back() = "cluster.aws." + regions;
    more.insert(more.end(), {"--module-name=toy", "--check"});
    return Launch(more, 0, price).out;
  };
  EXPECT_THAT(text("regions=[us-east-2]", reckon),
              HasSubstr("\ncheapest      us-east-2: none that is known here costs less\n"));
  EXPECT_THAT(text("zones=[us-west-2b]", reckon),
              HasSubstr("\ncheapest      us-east-2 of all that are known here, $0.0200 an hour (1 "
                        "%) less than us-west-2\n"));
  EXPECT_THAT(text("regions=[us-east-1, us-west-2]", reckon),
              HasSubstr("\ncheapest      us-east-1 of those that are allowed; us-east-2 of all"));
  // Nobody has told them: the catalogue has those of one region.
  const auto unknown = [](const Job&, const LaunchFlags&, Plan* plan) {
    ReckonWithOnDemand(absl::UnauthenticatedError("log in: aws configure"), plan);
  };
  EXPECT_THAT(text("regions=[us-west-2]", unknown),
              AllOf(HasSubstr("EC2 on demand, us-east-1, 2026-06 (those of us-west-2 are not known "
                              "here), by this build's table (log in: aws configure); disks"),
                    Not(HasSubstr("cheapest"))));
  EXPECT_THAT(text("regions=[us-east-1]", unknown),
              HasSubstr("cheapest      us-east-1: none that is known here costs less"));
}

TEST(Plan, ABudgetIsTheMostWhereTheRunningTimeAllowsMore) {
  EXPECT_DOUBLE_EQ(MostUsd(/*usd_per_hour=*/2, /*max_running_s=*/7200, /*budget=*/0), 4);
  EXPECT_DOUBLE_EQ(MostUsd(2, 7200, 5), 4);
  EXPECT_DOUBLE_EQ(MostUsd(2, 7200, 3), 3);
  const std::vector<std::string> words = {
      "--scale-tier=basic",        "--provider=AWS", "--region=r", "--module-name=toy",
      "--max-running-time=36000s", "--check"};
  EXPECT_THAT(Launch(words).out, HasSubstr("$1.92, if it runs until it is stopped"));
  std::vector<std::string> limited = words;
  limited.insert(limited.end(), {"--set", "cluster.budget.maxCost=1.5"});
  EXPECT_THAT(Launch(limited).out, HasSubstr("$1.50, its budget"));
}

TEST(Plan, AMachineThatAwsHasNoneOf) {
  const Result result = Launch({"--scale-tier=custom", "--provider=AWS", "--module-name=toy",
                                "--region=r", "--check", "--master-machine-type=n1-highmem-96",
                                "--master-accelerator", "count=8,type=nvidia-tesla-t4"});
  EXPECT_EQ(result.code, 2);
  EXPECT_EQ(result.err,
            "--master-machine-type: no EC2 type that is known here has 8 x NVIDIA_TESLA_T4 or more "
            "with 96 vCPUs and 624 GB; write another, or a type of EC2's such as c6i.4xlarge\n");
}

TEST(Plan, ShapesOfTheScheduleAndClipping) {
  ExpectPlan(
      "schedule",
      {"--scale-tier", "basic", "--set",
       "training.schedule=[{steps: 500, learningRate: 0.01, endLearningRate: 0.1},"
       " {steps: 100, learningRate: 0.1},"
       " {steps: 4000, learningRate: 0.1, endLearningRate: 0.001, shape: COSINE},"
       " {steps: 400, learningRate: 0.001, endLearningRate: 0, shape: POLYNOMIAL, power: 2}]",
       "--set",
       "training.optimizer={name: ftrl, params: {l1: 0.001}, clipValue: 0.5, clipNorm: 10}"});
}

TEST(Plan, CountsAndPrices) {
  JobDraft draft;
  ReadJobFile("configs/custom.yaml", &draft);
  draft.job.mutable_training_input()->set_python_module("toy");
  ResolveOptions options;
  options.find_module = FindToy;
  const std::optional<ResolvedJob> resolved = ResolveJob(options, &draft);
  ASSERT_TRUE(resolved) << draft.problems.Text();
  const Plan plan = MakePlan(resolved->job, options.catalog);
  EXPECT_EQ(plan.count(Role::kWorker), 9);
  EXPECT_EQ(plan.count(Role::kParameterServer), 3);
  EXPECT_EQ(plan.count(Role::kEvaluator), 0);
  EXPECT_EQ(plan.replicas, 10);
  EXPECT_EQ(plan.processes, 14);
  EXPECT_FALSE(plan.one_process);
  EXPECT_EQ(plan.steps, 18000);
  EXPECT_EQ(plan.global_batch, 1000);
  EXPECT_NEAR(*plan.usd_per_hour, 10 * 0.5672 + 3 * 0.4736, 1e-9);
}

TEST(Launch, WrongInputExitsWithTwoAndEveryProblem) {
  const Result result = Launch({"--scale-tier=basik", "--check", "--seed=x"});
  EXPECT_EQ(result.code, 2);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(
      result.err,
      "command line: trainingInput.pythonModule: required: it names what is trained; write "
      "pythonModule: speech_commands.train (or --module-name)\n"
      "--scale-tier: 'basik' is not one of BASIC, STANDARD_1, PREMIUM_1, BASIC_GPU, BASIC_TPU, "
      "CUSTOM; write `BASIC`\n"
      "--seed: 'x' is not an integer; write a number such as 9\n");
  EXPECT_EQ(
      Launch({"--config", "no/such.yaml"}).err,
      "no/such.yaml: cannot be read: No such file or directory; give the path of a job file after "
      "--config\n");
}

TEST(Launch, BasicTpuIsUnderstoodAndRefused) {
  const Result result = Launch({"--scale-tier=basic-tpu", "--module-name=toy", "--check"});
  EXPECT_EQ(result.code, 2);
  EXPECT_EQ(
      result.err,
      "--scale-tier: BASIC_TPU asks for a Cloud TPU, and Muster computes on CPUs and GPUs only; "
      "write BASIC_GPU, or CUSTOM with machine types\n");
}

TEST(Launch, TheExitCodeIsTheJobs) {
  EXPECT_EQ(Launch({"--scale-tier=basic", "--module-name=toy"}, 0).code, 0);
  EXPECT_EQ(Launch({"--scale-tier=basic", "--module-name=toy"}, 130).code, 130);
}

TEST(Launch, TheFirstWordNamesACommand) {
  EXPECT_EQ(Launch({"predict", "a", "b"}).code, 2);  // the words that the command got
  EXPECT_EQ(Launch({"pradict"}).err, "launch has no command 'pradict'; write `predict`\n");
  EXPECT_EQ(Launch({"job.yaml"}).err,
            "launch has no command 'job.yaml'; write launch --config FILE\n");
  EXPECT_EQ(Launch({"pradict"}).code, 2);
  EXPECT_EQ(Launch({}).code, 2);
  EXPECT_THAT(Launch({"--help"}).out, HasSubstr("launch predict: classify clips"));
  EXPECT_EQ(Launch({"--help"}).code, 0);
  EXPECT_THAT(Launch({"--check", "--help"}).out, HasSubstr("--config FILE"));
}

// The example jobs, with the modules of this build.
TEST(Examples, EveryOneIsPlanned) {
  for (const char* file :
       {"configs/custom.yaml", "configs/speech_commands.yaml", "configs/speech_conv_basic.yaml"}) {
    JobDraft draft;
    ASSERT_TRUE(ReadJobFile(file, &draft)) << draft.problems.Text();
    if (!draft.origins.Has("trainingInput.pythonModule")) {
      SetJobField("trainingInput.pythonModule", "speech_commands.train", {"--module-name"}, &draft);
    }
    const std::optional<ResolvedJob> resolved = ResolveJob({}, &draft);
    ASSERT_TRUE(resolved) << draft.problems.Text();
    EXPECT_GT(MakePlan(resolved->job, Catalog::BuiltIn()).steps, 0) << file;
  }
}

}  // namespace
}  // namespace muster::cluster
