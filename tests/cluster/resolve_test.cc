// From a file and flags to the complete job, and every problem on the way.
#include "cluster/resolve.h"

#include <gmock/gmock.h>

#include "cluster/flags.h"
#include "tests/cluster/toy_module.h"

namespace muster::cluster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Outcome {
  std::optional<ResolvedJob> resolved;
  std::string problems;
};

Outcome Resolve(const std::string& yaml, const std::vector<std::string>& words = {}) {
  JobDraft draft;
  const LaunchFlags flags = ParseLaunchFlags(words, &draft.problems);
  if (!yaml.empty()) ReadJobYaml(yaml, "job.yaml", &draft);
  ApplyLaunchFlags(flags, &draft);
  ResolveOptions options;
  options.find_module = FindToy;
  options.now = std::chrono::system_clock::from_time_t(1'800'000'000);  // 2027-01-15 08:00:00 UTC
  Outcome outcome;
  outcome.resolved = ResolveJob(options, &draft);
  outcome.problems = draft.problems.Text();
  return outcome;
}

constexpr char kBasic[] = "trainingInput: {scaleTier: BASIC, pythonModule: toy.train}\n";

TEST(Resolve, TheModulesDefaultsFillTheKnobs) {
  const Outcome outcome = Resolve(kBasic);
  ASSERT_EQ(outcome.problems, "");
  const Training& training = outcome.resolved->job.training();
  EXPECT_EQ(training.batch_size(), 100);
  EXPECT_EQ(training.evaluation().interval(), 400);
  EXPECT_EQ(training.checkpoints().interval(), 100);
  ASSERT_EQ(training.schedule_size(), 2);
  EXPECT_EQ(training.schedule(1).steps(), 3000);
  EXPECT_EQ(training.schedule(1).learning_rate(), 0.0001);
}

TEST(Resolve, EveryDefaultIsWrittenOut) {
  const Job job = Resolve(kBasic).resolved->job;
  EXPECT_EQ(job.training().optimizer().name(), "sgd");
  EXPECT_EQ(job.training().codec().push(), "none");
  EXPECT_TRUE(job.training().chief_trains());
  EXPECT_EQ(job.training().checkpoints().keep(), 5);
  EXPECT_EQ(job.training().summary_interval(), 10);
  EXPECT_EQ(job.cluster().start_timeout_s(), 60);
  EXPECT_EQ(job.training_input().scheduling().max_running_time().seconds(), 604800);
  EXPECT_THAT(job.training_input().args(), ElementsAre("--words=yes,no"));
}

TEST(Resolve, ATierWithAGpuUsesOneWhereOneIs) {
  const Outcome outcome = Resolve("trainingInput: {scaleTier: BASIC_GPU, pythonModule: toy}\n");
  ASSERT_EQ(outcome.problems, "");
  ASSERT_EQ(outcome.resolved->substitutions.size(), 1u);
  EXPECT_EQ(outcome.resolved->substitutions[0].path, "trainingInput.scaleTier");
  EXPECT_EQ(outcome.resolved->substitutions[0].where, "job.yaml:1:28");
  EXPECT_THAT(outcome.resolved->substitutions[0].text,
              HasSubstr("computes on the machine's GPU where one is usable"));
}

TEST(Resolve, CodecsAreCheckedWhereTheyAreWritten) {
  const auto with = [](const std::string& codec) {
    return Resolve(std::string(kBasic) + "training: {codec: " + codec + "}\n");
  };
  EXPECT_EQ(with("{push: topk, parameters: [{pattern: '*bias'}]}").problems, "");
  const CodecSpec spec =
      with("{push: topk, parameters: [{pattern: '*bias'}]}").resolved->job.training().codec();
  EXPECT_EQ(spec.fraction(), 0.01);
  EXPECT_EQ(spec.parameters(0).push(), "none");
  EXPECT_THAT(with("{push: int9}").problems,
              HasSubstr("job.yaml:2:26: training.codec.push: unknown codec 'int9'; write one of "
                        "none, fp16, bf16, int8, 1bit, topk"));
  EXPECT_EQ(with("{pull: bf16}").problems, "");
  EXPECT_EQ(with("{push: int8}").resolved->job.training().codec().pull(), "none");
  EXPECT_EQ(with("{pull: topk}").resolved->job.training().codec().pull_fraction(), 0.01);
  EXPECT_THAT(with("{pull: topk, pullFraction: 2}").problems,
              HasSubstr("training.codec.pullFraction: fraction is 2"));
  EXPECT_THAT(with("{pull: int8}, consistency: {mode: ASYNC}").problems,
              HasSubstr("job.yaml:2:26: training.codec.pull: parameters are pulled as int8 in "
                        "differences, which only BSP has, and mode is ASYNC; write mode: BSP, or "
                        "pull: fp16 or bf16"));
  EXPECT_EQ(with("{pull: bf16}, consistency: {mode: ASYNC}").problems, "");
  EXPECT_THAT(with("{parameters: [{pattern: a, pull: int9}]}").problems,
              HasSubstr("training.codec.parameters[0].pull: unknown codec 'int9'"));
  EXPECT_THAT(with("{push: topk, fraction: 2}").problems,
              HasSubstr("training.codec.fraction: fraction is 2"));
  EXPECT_THAT(with("{push: int8, fraction: 0.1}").problems,
              HasSubstr("training.codec.fraction: codec 'int8'"));
  EXPECT_THAT(with("{parameters: [{push: int8}]}").problems,
              HasSubstr("training.codec.parameters[0].pattern: required"));
  EXPECT_THAT(with("{parameters: [{pattern: a, push: int9}]}").problems,
              HasSubstr("training.codec.parameters[0].push: unknown codec"));
}

TEST(Resolve, KnobsInArgsMoveToTraining) {
  const Outcome outcome = Resolve(
      "trainingInput: {scaleTier: BASIC, pythonModule: toy, args: [--batch_size, 7, "
      "--learning_rate=1, --how_many_training_steps=5, --words=a]}\n");
  ASSERT_EQ(outcome.problems, "");
  EXPECT_EQ(outcome.resolved->job.training().batch_size(), 7);
  EXPECT_EQ(outcome.resolved->job.training().schedule_size(), 1);
  EXPECT_THAT(outcome.resolved->job.training_input().args(), ElementsAre("--words=a"));
  EXPECT_THAT(outcome.resolved->changed_args, ElementsAre("--words=a"));
}

TEST(Resolve, TheFileBeatsTheModulesDefaults) {
  const Outcome outcome = Resolve(
      std::string(kBasic) + "training: {batchSize: 3, schedule: [{steps: 9, learningRate: 2}]}");
  ASSERT_EQ(outcome.problems, "");
  EXPECT_EQ(outcome.resolved->job.training().batch_size(), 3);
  EXPECT_EQ(outcome.resolved->job.training().schedule_size(), 1);
}

TEST(Resolve, AKnobGivenTwiceAlikeIsFine) {
  EXPECT_EQ(Resolve("trainingInput: {scaleTier: BASIC, pythonModule: toy, args: [--batch_size=3, "
                    "--learning_rate=0.5, --how_many_training_steps=9]}\n"
                    "training: {batchSize: 3, schedule: [{steps: 9, learningRate: 0.5}]}\n")
                .problems,
            "");
}

TEST(Resolve, AKnobGivenTwiceAndDifferentNamesBothPlaces) {
  EXPECT_EQ(Resolve("trainingInput:\n  scaleTier: BASIC\n  pythonModule: toy\n  args:\n"
                    "  - --batch_size=4\n  - --eval_step_interval\n  - 5\n  - --learning_rate=1,2\n"
                    "training:\n  batchSize: 3\n  evaluation: {interval: 6}\n"
                    "  schedule: [{steps: 9, learningRate: 1}]\n")
                .problems,
            "job.yaml:5:5: trainingInput.args[0]: --batch_size=4 and training.batchSize at "
            "job.yaml:10:14 "
            "differ; keep one of them\n"
            "job.yaml:6:5: trainingInput.args[1]: --eval_step_interval=5 and "
            "training.evaluation.interval "
            "at job.yaml:11:26 differ; keep one of them\n"
            "job.yaml:8:5: trainingInput.args[3]: --learning_rate=1,2 and training.schedule at "
            "job.yaml:12:13 differ; keep one of them\n");
}

TEST(Resolve, ListsOfAScheduleHaveOneLength) {
  EXPECT_EQ(
      Resolve(kBasic, {"--", "--how_many_training_steps=100"}).problems,
      "-- --how_many_training_steps: has 1 value (100), but --learning_rate has 2 values (the "
      "default 0.001,0.0001); write one of each for every stage\n");
  EXPECT_EQ(
      Resolve(kBasic, {"--", "--learning_rate=0.1,x", "--how_many_training_steps=1,,2"}).problems,
      "-- --learning_rate: 'x' is not a number of double precision; write numbers with commas "
      "between them, one for each stage\n"
      "-- --how_many_training_steps: '' is not an integer; write numbers with commas between "
      "them, one for each stage\n");
}

TEST(Resolve, RulesSeeKnobsAtTheirFlags) {
  EXPECT_EQ(
      Resolve(kBasic, {"--", "--batch_size=0", "--learning_rate=-1", "--how_many_training_steps=0"})
          .problems,
      "-- --batch_size: 0 is too small; write 1 or more\n"
      "-- --how_many_training_steps: 0 is too small; write 1 or more\n"
      "-- --learning_rate: -1 is not a learning rate; write a finite number above 0\n");
}

TEST(Resolve, FlagsAfterTheDashesReplaceTheFilesArgs) {
  const Outcome outcome =
      Resolve("trainingInput: {scaleTier: BASIC, pythonModule: toy, args: [--words=a]}",
              {"--", "--batch_size=5"});
  ASSERT_EQ(outcome.problems, "");
  EXPECT_THAT(outcome.resolved->job.training_input().args(), ElementsAre("--words=yes,no"));
}

TEST(Resolve, WrongArgumentsAndModules) {
  EXPECT_EQ(
      Resolve("trainingInput:\n  scaleTier: BASIC\n  pythonModule: toy\n  args: [--batch_sise=3, "
              "--x]\n")
          .problems,
      "job.yaml:4:10: trainingInput.args[0]: toy has no flag '--batch_sise'; write `--batch_size`\n"
      "job.yaml:4:26: trainingInput.args[1]: toy has no flag '--x'; write one of --words, "
      "--learning_rate, --how_many_training_steps, --eval_step_interval, --save_step_interval, "
      "--batch_size\n");
  EXPECT_EQ(Resolve("trainingInput: {scaleTier: BASIC, pythonModule: tot}").problems,
            "job.yaml:1:49: trainingInput.pythonModule: no module is called 'tot'; write `toy`\n");
  EXPECT_EQ(Resolve(kBasic, {"--", "--words", "bad"}).problems,
            "-- --words: --words=bad is no list of words; write yes,no\n");
}

TEST(Resolve, OptimizersAreChecked) {
  EXPECT_THAT(Resolve(kBasic, {"--optimizer=adamm"}).problems,
              HasSubstr("--optimizer: unknown optimizer 'adamm'"));
  EXPECT_THAT(
      Resolve(std::string(kBasic) + "training: {optimizer: {name: adam, params: {beta9: 1}}}")
          .problems,
      HasSubstr("job.yaml:2:44: training.optimizer.params: "));
  EXPECT_THAT(
      Resolve(kBasic, {"--optimizer=lamb", "--consistency=ASYNC"}).problems,
      HasSubstr("--optimizer: lamb needs norms of whole parameters, which only BSP has, and "
                "mode is ASYNC; write mode: BSP, or another optimizer"));
  EXPECT_EQ(Resolve(kBasic, {"--optimizer=lamb"}).problems, "");
}

TEST(Resolve, NamesComeFromTheJobDirOrFromModuleAndTime) {
  const auto names = [](const std::vector<std::string>& words) {
    const Job job = Resolve(kBasic, words).resolved->job;
    return job.job_id() + " in " + job.training_input().job_dir();
  };
  EXPECT_EQ(names({}), "toy_20270115_080000 in jobs/toy_20270115_080000");
  EXPECT_EQ(names({"--job-dir", "/tmp/run-1/"}), "run_1 in /tmp/run-1/");
  EXPECT_EQ(names({"--job-dir", "/"}), "job_ in /");
  EXPECT_EQ(names({"--job-dir=7"}), "job_7 in 7");
  EXPECT_EQ(names({"--job-id=mine"}), "mine in jobs/mine");
}

TEST(Resolve, ASecretAmongTheArgumentsIsRefusedWithoutRepeatingIt) {
  const std::string secret = "AKIA" + std::string(16, 'Q');
  const std::string problems = Resolve(kBasic, {"--", "--data_dir=" + secret}).problems;
  EXPECT_THAT(problems, HasSubstr("looks like an access key of AWS; delete it"));
  EXPECT_THAT(problems, ::testing::Not(HasSubstr(secret)));
}

TEST(Resolve, TooManyProcessesForOneMachine) {
  EXPECT_THAT(Resolve("trainingInput: {scaleTier: CUSTOM, pythonModule: toy, masterType: standard, "
                      "workerType: standard, workerCount: 9223372036854775807}")
                  .problems,
              HasSubstr("workerCount: with the parameter servers, more than a thousand processes"));
}

TEST(Resolve, BackupWorkersNeedReplicasThatCountAndAnOptimizerWithoutNorms) {
  const std::string three =
      "trainingInput: {scaleTier: CUSTOM, pythonModule: toy, masterType: standard, workerType: "
      "standard, workerCount: 2}\n";
  const Outcome one = Resolve(three, {"--backup-workers=1"});
  ASSERT_EQ(one.problems, "");
  EXPECT_EQ(one.resolved->job.training().consistency().backup_workers(), 1);
  EXPECT_EQ(Resolve(three, {"--backup-workers=2"}).problems, "");
  EXPECT_EQ(Resolve(three, {"--backup-workers=3"}).problems,
            "--backup-workers: 3 of 3 replicas may be late: no gradient would count; write a "
            "smaller number, or more workers\n");
  EXPECT_THAT(Resolve(three + "training: {chiefTrains: false}", {"--backup-workers=2"}).problems,
              HasSubstr("2 of 2 replicas may be late"));
  EXPECT_THAT(Resolve(three, {"--backup-workers=1", "--optimizer=lamb"}).problems,
              HasSubstr("--optimizer: lamb needs norms that the trainer of replica 0 sums up"));
  EXPECT_THAT(Resolve(three, {"--backup-workers=-1"}).problems,
              HasSubstr("-1 is too small; write 0 or more"));
}

TEST(Resolve, WithoutAScheduleTheJobIsRefused) {
  JobDraft draft;
  ReadJobYaml("trainingInput: {scaleTier: BASIC, pythonModule: bare}", "job.yaml", &draft);
  static const worker::ModuleType bare = {"bare", {}, nullptr};
  ResolveOptions options;
  options.find_module = [](const std::string&) -> absl::StatusOr<const worker::ModuleType*> {
    return &bare;
  };
  EXPECT_FALSE(ResolveJob(options, &draft));
  EXPECT_EQ(draft.problems.Text(),
            "job.yaml:1:1: training.schedule: required: how long to train, and how fast; write "
            "schedule: [{steps: 1000, learningRate: 0.1}]\n");
}

TEST(Resolve, TheResolvedJobResolvesToItself) {
  for (const std::string& yaml : std::vector<std::string>{
           kBasic,
           std::string(
               "jobId: j\nlabels: {a: b}\ntrainingInput: {scaleTier: CUSTOM, pythonModule: toy, "
               "masterType: standard, workerType: standard, workerCount: 2, args: [--words=x]}\n"
               "training: {optimizer: {name: adam, params: {beta1: 0.8}}, consistency: {mode: SSP, "
               "staleness: 2}, chiefTrains: false}\n")}) {
    const Outcome first = Resolve(yaml);
    ASSERT_EQ(first.problems, "");
    const std::string written = WriteJobYaml(first.resolved->job);
    const Outcome second = Resolve(written);
    ASSERT_EQ(second.problems, "") << written;
    EXPECT_EQ(WriteJobYaml(second.resolved->job), written);
  }
}

}  // namespace
}  // namespace muster::cluster
