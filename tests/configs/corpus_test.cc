// Job files, good and bad, with exactly what reading and checking them gives.
//
// corpus/good/NAME.yaml has no problem and reads as NAME.job; corpus/bad/NAME.yaml has the problems
// of NAME.txt. A new case is two files.
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "configs/catalog.h"
#include "configs/job_yaml.h"
#include "configs/rules.h"
#include "tests/harness/golden.h"

namespace muster {
namespace {

namespace fs = std::filesystem;

std::set<std::string> FilesIn(const std::string& folder) {
  std::set<std::string> files;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".yaml") files.insert(entry.path());
  }
  return files;
}

// As the command line would: with a module's name where the file has none.
JobDraft ReadAndCheck(const std::string& path) {
  JobDraft draft;
  const bool readable = ReadJobYaml(ReadFileForTest(path), fs::path(path).filename(), &draft);
  if (!readable) return draft;
  if (!draft.origins.Has("trainingInput.pythonModule")) {
    SetJobField("trainingInput.pythonModule", "module", {"--module-name"}, &draft);
  }
  CheckJob(Catalog::BuiltIn(), &draft);
  return draft;
}

std::string Beside(const std::string& path, const char* extension) {
  return fs::path(path).replace_extension(extension);
}

TEST(Corpus, GoodFilesLoad) {
  const std::set<std::string> files = FilesIn("tests/configs/corpus/good");
  EXPECT_GE(files.size(), 11u);
  for (const std::string& path : files) {
    SCOPED_TRACE(path);
    const JobDraft draft = ReadAndCheck(path);
    EXPECT_EQ(draft.problems.Text(), "");
    ExpectGolden(Beside(path, ".job"), WriteJobYaml(draft.job));
  }
}

TEST(Corpus, GoodFilesAreWrittenAndReadBackUnchanged) {
  for (const std::string& path : FilesIn("tests/configs/corpus/good")) {
    SCOPED_TRACE(path);
    const JobDraft draft = ReadAndCheck(path);
    JobDraft again;
    ASSERT_TRUE(ReadJobYaml(WriteJobYaml(draft.job), "again.yaml", &again));
    EXPECT_EQ(again.problems.Text(), "");
    EXPECT_EQ(again.job.DebugString(), draft.job.DebugString());
  }
}

TEST(Corpus, BadFilesAreRefusedWithEveryProblem) {
  const std::set<std::string> files = FilesIn("tests/configs/corpus/bad");
  EXPECT_GE(files.size(), 40u);
  for (const std::string& path : files) {
    SCOPED_TRACE(path);
    const std::string problems = ReadAndCheck(path).problems.Text();
    EXPECT_NE(problems, "");
    ExpectGolden(Beside(path, ".txt"), problems);
  }
}

}  // namespace
}  // namespace muster
