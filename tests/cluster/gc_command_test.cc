// launch gc on journals as launches, and accidents, leave them; `aws` is a script.
#include "cluster/gc_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "cluster/journal.h"
#include "tests/cluster/said.h"
#include "tests/harness/temporary_folder.h"

namespace muster::cluster {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class GcCommandTest : public ::testing::Test {
 protected:
  // An AWS where there is nothing, and where each question is written down.
  void SetUp() override {
    fs::create_directories(folder_.path() + "/bin");
    const std::string aws = folder_.path() + "/bin/aws";
    std::ofstream(aws) << "#!/bin/sh\necho \"$@\" >>" << folder_.path() << "/asked\n";
    fs::permissions(aws, fs::perms::owner_all);
  }
  Said Run(const std::vector<std::string>& words) {
    return RunSaid(words, [&](const CommandContext& context) {
      return RunGcCommand(context, {.folder = machines_,
                                    .owner = "me@here",
                                    .environment = {"PATH=" + folder_.path() + "/bin:/bin"}});
    });
  }
  std::string Asked() const {
    std::ifstream file(folder_.path() + "/asked");
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void Journal(const std::string& job_id, bool asked) const {
    JournalHead head{.job_id = job_id, .run = "mu1", .job_dir = "/j", .owner = "me@here"};
    head.cluster.set_provider(Cluster::AWS);
    head.cluster.mutable_aws()->add_regions("eu-west-1");
    const auto journal = MachineJournal::Begin(machines_, head, 0);
    ASSERT_TRUE(journal.ok()) << journal.status();
    EXPECT_TRUE(!asked || (*journal)->Asking("mu1-1-master", 1000).ok());
  }
  std::string File(const std::string& text) const {
    const std::string path = folder_.path() + "/job.yaml";
    std::ofstream(path) << text;
    return path;
  }

  const harness::TemporaryFolder folder_;
  const std::string machines_ = folder_.path() + "/machines";
};

TEST_F(GcCommandTest, ADamagedJournalIsNamedAndTheOthersAreCollected) {
  Journal("a", /*asked=*/true);
  Journal("z", /*asked=*/true);
  std::ofstream(machines_ + "/m.jsonl") << "{\"schemaVersion\": 1, \"jobId\": \"m";
  std::ofstream(machines_ + "/n.jsonl");
  fs::create_directory(machines_ + "/o.jsonl");
  const Said said = Run({});
  EXPECT_EQ(said.code, 1) << "what those have left is not known";
  EXPECT_THAT(said.out, AllOf(HasSubstr("a: nothing is left\n"), HasSubstr("z: nothing is left\n"),
                              HasSubstr("m: " + machines_ + "/m.jsonl:1: "),
                              HasSubstr("n: " + machines_ + "/n.jsonl:1: it is empty: remove it; "),
                              HasSubstr("o: cannot open " + machines_ + "/o.jsonl")));
  EXPECT_THAT(MachineJournal::Jobs(machines_), ElementsAre("m", "n", "o"));
  const Said named = Run({"--stopped", "m"});
  EXPECT_EQ(named.code, 2);
  EXPECT_THAT(named.err, ContainsRegex("^[^\n]+m.jsonl:1: [^\n]+\n$"));
}

TEST_F(GcCommandTest, WhereNothingWasAskedForNothingIsTaken) {
  Journal("none", /*asked=*/false);
  EXPECT_EQ(Run({"--dry-run"}).out, "none: nothing is left\n");
  const Said said = Run({});
  EXPECT_EQ(said.code, 0) << said.out;
  EXPECT_THAT(Asked(),
              AllOf(HasSubstr("Name=tag-key,Values=muster-job"), Not(HasSubstr("Values=none"))));
  EXPECT_THAT(MachineJournal::Jobs(machines_), IsEmpty());
}

TEST_F(GcCommandTest, AJobFileSaysWhereToLookAsItDoesForLaunch) {
  const std::string file = File("trainingInput: {region: eu-north-1}\ncluster: {provider: AWS}\n");
  EXPECT_EQ(Run({"--config", file}).code, 0);
  EXPECT_THAT(Asked(), HasSubstr("--region eu-north-1 ec2 describe-instances"));
}

TEST_F(GcCommandTest, AJobFileThatIsWrongIsRefusedByLine) {
  for (const char* cluster :
       {"provider: AWS, aws: {region: [eu-north-1]}", "provider: AWS, aws: {regions: [--debug]}",
        "provider: AVS", "provider: AWS, aws: {regions: eu-north-1}"}) {
    const Said said = Run({"--config", File(std::string("cluster: {") + cluster + "}\n")});
    EXPECT_EQ(said.code, 2) << cluster;
    EXPECT_THAT(said.err, ContainsRegex("^[^\n]+job.yaml:1:[0-9]+: cluster[^\n]+\n$")) << cluster;
  }
  EXPECT_THAT(Run({"--config", File("cluster: {}\n")}).err,
              HasSubstr("job.yaml: provider LOCAL makes no machines\n"));
  EXPECT_THAT(Run({"--config", "nowhere"}).err, ContainsRegex("^nowhere: cannot be read[^\n]+\n$"));
  EXPECT_EQ(Asked(), "");
}

TEST_F(GcCommandTest, WordsThatMakeNoSenseAreOneLine) {
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"job"},
                                             {"--stopped"},
                                             {"--stopped", ""},
                                             {"--stopped", "job"},
                                             {"--dryrun"},
                                             {"--config"}}) {
    const Said said = Run(words);
    EXPECT_EQ(said.code, 2) << words[0];
    EXPECT_THAT(said.err, ContainsRegex("^[^\n]+\n$"));
    EXPECT_EQ(said.out, "");
  }
  EXPECT_EQ(Run({"--help"}).code, 0);
}

}  // namespace
}  // namespace muster::cluster
