// The table of what becomes of each field with each provider: complete, as documented, and as done.
#include "cluster/provider_fields.h"

#include <gmock/gmock.h>

#include <fstream>

#include "configs/job_fields.h"
#include "tests/harness/golden.h"

namespace muster::cluster {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(ProviderFields, DecideEveryFieldOfTrainingInput) {
  const std::vector<std::string> paths = LeafPaths(*TrainingInput::descriptor(), "trainingInput");
  EXPECT_GT(paths.size(), 50u);
  for (const std::string& path : paths) EXPECT_NE(FindProviderField(path), nullptr) << path;
}

TEST(ProviderFields, NameFieldsThatExist) {
  const std::vector<std::string> all = LeafPaths(*Job::descriptor(), "");
  for (const FieldTreatmentOf& field : ProviderFields()) {
    std::string path = field.path;
    if (const size_t star = path.find('*'); star != std::string::npos)
      path.replace(star, 1, "master");
    const bool exists = std::any_of(all.begin(), all.end(), [&](const std::string& leaf) {
      return leaf == path || leaf.starts_with(path + ".");
    });
    EXPECT_TRUE(exists) << field.path;
    EXPECT_NE(field.treatment.text[0], '\0') << field.path;
  }
}

TEST(ProviderFields, OfAProviderAreRowsOfTheTable) {
  for (const auto& fields : {SshFields(), SlurmFields(), AwsFields(), GcpFields()}) {
    for (const FieldTreatmentOf& field : fields) {
      const FieldTreatmentOf* row = FindProviderField(field.path);
      if (std::string(field.path).find('*') != std::string::npos) continue;
      ASSERT_NE(row, nullptr) << field.path;
      EXPECT_STREQ(row->path, field.path);
      EXPECT_STRNE(row->treatment.text, field.treatment.text) << field.path;
    }
  }
}

// The page holds the table between two comments; everything else in it is written by hand.
TEST(ProviderFields, ThePageShowsTheTable) {
  const std::string path = "docs/job-file.md", begin = "<!-- provider fields -->\n",
                    end = "<!-- end -->";
  std::string page = ReadFileForTest(path);
  const size_t from = page.find(begin), to = page.find(end);
  ASSERT_TRUE(from != std::string::npos && to != std::string::npos && from < to);
  page.replace(from + begin.size(), to - from - begin.size(), ProviderFieldsMarkdown());
  ExpectGolden(path, page);
}

std::vector<Substitution> Check(const std::string& yaml, std::string* problems) {
  JobDraft draft;
  ReadJobYaml(yaml, "job.yaml", &draft);
  EXPECT_EQ(draft.problems.Text(), "");
  std::vector<Substitution> substitutions = CheckProviderFields(&draft);
  *problems = draft.problems.Text();
  return substitutions;
}

TEST(ProviderFields, WhatIsRefusedIsAProblemAtItsPlace) {
  std::string problems;
  Check(
      "trainingInput:\n  masterConfig: {imageUri: i, tpuTfVersion: '2'}\n"
      "  workerConfig: {containerArgs: [a], containerCommand: [b]}\n"
      "  nasJobSpec: {searchSpace: s}\n  jobDir: hdfs://bucket/x\n",
      &problems);
  EXPECT_EQ(
      problems,
      "job.yaml:2:28: trainingInput.masterConfig.imageUri: cannot be done by provider LOCAL; roles "
      "are "
      "programs of this build, not containers: delete it and name a module in pythonModule\n"
      "job.yaml:2:45: trainingInput.masterConfig.tpuTfVersion: cannot be done by provider LOCAL; "
      "there "
      "are no TPUs here: delete it\n"
      "job.yaml:3:33: trainingInput.workerConfig.containerArgs: cannot be done by provider LOCAL; "
      "roles "
      "are programs of this build, not containers: delete it and name a module in pythonModule\n"
      "job.yaml:3:56: trainingInput.workerConfig.containerCommand: cannot be done by provider "
      "LOCAL; "
      "roles are programs of this build, not containers: delete it and name a module in "
      "pythonModule\n"
      "job.yaml:4:15: trainingInput.nasJobSpec: cannot be done by provider LOCAL; there is no "
      "architecture search: delete it\n"
      "job.yaml:5:11: trainingInput.jobDir: 'hdfs://bucket/x' is no place that launch can "
      "reach; write a directory of this machine such as jobs/first, s3://BUCKET/PATH or "
      "gs://BUCKET/PATH\n");
}

TEST(ProviderFields, WhatIsSubstitutedIsTold) {
  std::string problems;
  const std::vector<Substitution> substitutions =
      Check("trainingInput: {region: r, evaluatorCount: 2, enableWebAccess: false, workerCount: 2}",
            &problems);
  EXPECT_EQ(problems, "");
  std::vector<std::string> lines;
  for (const Substitution& s : substitutions)
    lines.push_back(s.path + " " + s.where + " " + s.text);
  EXPECT_THAT(
      lines,
      ElementsAre("trainingInput.evaluatorCount job.yaml:1:44 no evaluator process: the replicas "
                  "share the evaluation",
                  "trainingInput.region job.yaml:1:25 the job runs on this machine"));
}

TEST(ProviderFields, SpotMachinesAreTheWorkersAlone) {
  const auto told = [](const std::string& provider, int workers) {
    std::string problems;
    const std::vector<Substitution> substitutions = Check(
        "cluster: {provider: " + provider +
            "}\ntrainingInput:\n  scaleTier: CUSTOM\n  workerCount: " + std::to_string(workers) +
            "\n  scheduling: {strategy: LOW_COST}\n",
        &problems);
    EXPECT_EQ(problems, "");
    std::string text;
    for (const Substitution& s : substitutions) text += s.where + " " + s.text;
    return text;
  };
  EXPECT_EQ(told("AWS", 2), "");
  EXPECT_EQ(told("GCP", 2), "");
  EXPECT_EQ(
      told("AWS", 0),
      "job.yaml:5:26 LOW_COST makes the workers' machines spot, and there are no workers: all "
      "are on demand");
  EXPECT_EQ(told("LOCAL", 2), "job.yaml:5:26 nothing is rented");
}

TEST(ProviderFields, ABidIsRefusedWhereNobodyTakesOne) {
  std::string problems;
  Check("cluster: {provider: GCP, spot: {maxPrice: 1}}\n", &problems);
  EXPECT_THAT(problems, HasSubstr("Compute Engine takes no bids: delete it"));
  Check("cluster: {provider: SSH, spot: {maxPrice: 1}}\n", &problems);
  EXPECT_THAT(problems, HasSubstr("nothing is rented: delete it"));
  Check("cluster: {provider: AWS, spot: {maxPrice: 1}}\n", &problems);
  EXPECT_EQ(problems, "");
}

}  // namespace
}  // namespace muster::cluster
