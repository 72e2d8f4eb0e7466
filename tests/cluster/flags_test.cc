// launch's command line.
#include "cluster/flags.h"

#include <gmock/gmock.h>

namespace muster::cluster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

JobDraft Apply(const std::vector<std::string>& words, const std::string& yaml = "") {
  JobDraft draft;
  const LaunchFlags flags = ParseLaunchFlags(words, &draft.problems);
  if (!yaml.empty()) ReadJobYaml(yaml, "job.yaml", &draft);
  ApplyLaunchFlags(flags, &draft);
  return draft;
}

TEST(LaunchFlags, SetTheFieldsThatGcloudsNamesMean) {
  const JobDraft draft = Apply({"--job-dir",
                                "/tmp/x",
                                "--module-name=a.b",
                                "--scale-tier",
                                "custom",
                                "--region",
                                "us-central1",
                                "--master-machine-type",
                                "n1-standard-8",
                                "--worker-machine-type=n1-standard-4",
                                "--parameter-server-machine-type",
                                "n1-highmem-8",
                                "--worker-count",
                                "9",
                                "--parameter-server-count=3",
                                "--master-accelerator",
                                "count=2,type=nvidia-tesla-k80",
                                "--runtime-version=1.15",
                                "--python-version",
                                "3.7",
                                "--labels",
                                "a=b,c=d",
                                "--package-path",
                                "trainer",
                                "--packages",
                                "x.tgz,y.tgz",
                                "--staging-bucket=gs://b",
                                "--network=n",
                                "--service-account=s",
                                "--use-chief-in-tf-config",
                                "--enable-web-access=false",
                                "--kms-key=k",
                                "--kms-keyring=r",
                                "--kms-location=l",
                                "--kms-project=p"});
  EXPECT_EQ(draft.problems.Text(), "");
  const TrainingInput& input = draft.job.training_input();
  EXPECT_EQ(input.job_dir(), "/tmp/x");
  EXPECT_EQ(input.python_module(), "a.b");
  EXPECT_EQ(input.scale_tier(), CUSTOM);
  EXPECT_EQ(input.region(), "us-central1");
  EXPECT_EQ(input.master_type(), "n1-standard-8");
  EXPECT_EQ(input.worker_type(), "n1-standard-4");
  EXPECT_EQ(input.parameter_server_type(), "n1-highmem-8");
  EXPECT_EQ(input.worker_count(), 9);
  EXPECT_EQ(input.parameter_server_count(), 3);
  EXPECT_EQ(input.master_config().accelerator_config().count(), 2);
  EXPECT_EQ(input.master_config().accelerator_config().type(), "NVIDIA_TESLA_K80");
  EXPECT_EQ(input.runtime_version(), "1.15");
  EXPECT_EQ(input.python_version(), "3.7");
  EXPECT_EQ(draft.job.labels().at("c"), "d");
  EXPECT_THAT(input.package_uris(), ElementsAre("trainer", "x.tgz", "y.tgz"));
  EXPECT_EQ(draft.job.cluster().staging_bucket(), "gs://b");
  EXPECT_TRUE(input.use_chief_in_tf_config());
  EXPECT_TRUE(input.has_enable_web_access());
  EXPECT_FALSE(input.enable_web_access());
  EXPECT_EQ(input.encryption_config().kms_key_name(),
            "projects/p/locations/l/keyRings/r/cryptoKeys/k");
}

TEST(LaunchFlags, OverrideTheFile) {
  const JobDraft draft =
      Apply({"--worker-count=2", "--packages=b", "--labels=x=y", "--", "--new=1"},
            "labels: {a: b}\ntrainingInput: {workerCount: 9, packageUris: [a], args: [--old]}\n");
  EXPECT_EQ(draft.job.training_input().worker_count(), 2);
  EXPECT_EQ(ToString(draft.origins.Find("trainingInput.workerCount")), "--worker-count");
  EXPECT_THAT(draft.job.training_input().package_uris(), ElementsAre("b"));
  EXPECT_THAT(draft.job.training_input().args(), ElementsAre("--new=1"));
  EXPECT_EQ(draft.job.labels().size(), 1u);
}

TEST(LaunchFlags, TiersAreTakenInBothSpellings) {
  for (const char* tier : {"standard-1", "STANDARD_1", "standard_1"}) {
    EXPECT_EQ(Apply({"--scale-tier", tier}).job.training_input().scale_tier(), STANDARD_1) << tier;
  }
  EXPECT_EQ(
      Apply({"--scale-tier", "basic_"}).problems.Text(),
      "--scale-tier: 'basic_' is not one of BASIC, STANDARD_1, PREMIUM_1, BASIC_GPU, BASIC_TPU, "
      "CUSTOM; write `BASIC`\n");
}

TEST(LaunchFlags, SetTakesAnyField) {
  const JobDraft draft = Apply({"--set", "training.checkpoints.keep=3", "--set",
                                "training.schedule=[{steps: 1, learningRate: 2}]", "--set",
                                "labels.team=audio", "--set=training.optimizer.params.beta1=0.5"});
  EXPECT_EQ(draft.problems.Text(), "");
  EXPECT_EQ(draft.job.training().checkpoints().keep(), 3);
  EXPECT_EQ(draft.job.training().schedule(0).learning_rate(), 2);
  EXPECT_EQ(draft.job.labels().at("team"), "audio");
  EXPECT_EQ(draft.job.training().optimizer().params().at("beta1"), 0.5);
}

TEST(LaunchFlags, SetNamesWhatIsWrongWithThePath) {
  EXPECT_EQ(Apply({"--set", "training.batchsize=3"}).problems.Text(),
            "--set training.batchsize: 'training.batchsize' is not a field of the job file; write "
            "`batchSize`\n");
  EXPECT_EQ(
      Apply({"--set", "training.batchSize.x=3"}).problems.Text(),
      "--set training.batchSize.x: 'training.batchSize' has no fields; write training.batchSize\n");
  EXPECT_EQ(Apply({"--set", "training"}).problems.Text(),
            "--set: 'training' has no value; write a field's path and its value, such as --set "
            "training.batchSize=64\n");
  EXPECT_THAT(Apply({"--set", "training.schedule=[{"}).problems.Text(),
              HasSubstr("--set training.schedule: not valid YAML"));
}

TEST(LaunchFlags, EverythingWrongIsReportedAtOnce) {
  EXPECT_EQ(
      Apply({"--worker-cuont=3", "--labels", "a", "--worker-count", "-1x", "--frobnicate", "3",
             "stray", "--master-accelerator=count=1,kind=x", "--region=a", "--region=b",
             "--kms-key=k"})
          .problems.Text(),
      "command line: 'stray' belongs to no flag; see launch --help; the module's own flags stand "
      "after `--`\n"
      "--worker-cuont: unknown flag; write --worker-count\n"
      "--frobnicate: unknown flag; see launch --help; the module's own flags stand after `--`\n"
      "--region: given twice; keep one of them\n"
      "--labels: 'a' is not a label; write name=value,name=value\n"
      "--worker-count: '-1x' is not an integer; write a number such as 9\n"
      "--master-accelerator: 'kind=x' is not count=N or type=T; write "
      "count=1,type=nvidia-tesla-v100\n"
      "--kms-key: 'k' is only the last part of a key's name; write --kms-keyring, --kms-location "
      "and --kms-project too\n");
}

TEST(LaunchFlags, AFlagWithoutItsValue) {
  Problems problems;
  EXPECT_TRUE(ParseLaunchFlags({"--check", "--worker-count"}, &problems).wrong);
  EXPECT_EQ(problems.Text(), "--worker-count: no value; write one after it\n");
}

TEST(LaunchFlags, WordsAfterTheDashesBelongToTheModule) {
  Problems problems;
  const LaunchFlags flags =
      ParseLaunchFlags({"--check", "--config", "f.yaml", "--", "--check=1", "--", "x"}, &problems);
  EXPECT_TRUE(problems.empty());
  EXPECT_TRUE(flags.check);
  EXPECT_EQ(flags.config, "f.yaml");
  EXPECT_THAT(flags.args, ElementsAre("--check=1", "--", "x"));
}

TEST(LaunchFlags, HelpNamesEveryFlagOnce) {
  const std::string help = LaunchHelp();
  EXPECT_THAT(help, HasSubstr("--parameter-server-machine-type TYPE"));
  EXPECT_THAT(help, HasSubstr("--check"));
}

}  // namespace
}  // namespace muster::cluster
