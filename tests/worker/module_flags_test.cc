// The parser of a module's own flags.
#include <gmock/gmock.h>

#include <filesystem>

#include "tests/harness/temporary_folder.h"
#include "worker/data_folder.h"
#include "worker/module.h"

namespace muster::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

const ModuleType& Toy() {
  static const ModuleType toy = {
      "toy",
      {{"batch_size", Flag::Type::kInt, "100", "samples", "training.batchSize"},
       {"rate", Flag::Type::kDouble, "0.5", "", ""},
       {"words", Flag::Type::kString, "yes,no", "", ""},
       {"shuffle", Flag::Type::kBool, "false", "", ""}},
      nullptr};
  return toy;
}

ParsedFlags Parse(std::vector<std::string> args) { return ParseModuleFlags(Toy(), args); }

std::vector<std::string> Lines(const ParsedFlags& parsed) {
  std::vector<std::string> lines;
  for (const FlagProblem& p : parsed.problems) {
    lines.push_back(std::to_string(p.arg) + ": " + p.what + "; " + p.write);
  }
  return lines;
}

TEST(ModuleFlags, AbsentOnesHaveTheirDefaults) {
  const ParsedFlags parsed = Parse({});
  EXPECT_THAT(parsed.values,
              UnorderedElementsAre(Pair("batch_size", "100"), Pair("rate", "0.5"),
                                   Pair("words", "yes,no"), Pair("shuffle", "false")));
  EXPECT_TRUE(parsed.given.empty());
}

TEST(ModuleFlags, ValueStandsAfterEqualsOrInTheNextArgument) {
  const ParsedFlags parsed = Parse({"--batch_size=7", "--rate", "-1e-3", "--words="});
  EXPECT_TRUE(parsed.problems.empty());
  EXPECT_EQ(parsed.values.at("batch_size"), "7");
  EXPECT_EQ(parsed.values.at("rate"), "-1e-3");
  EXPECT_EQ(parsed.values.at("words"), "");
  EXPECT_THAT(parsed.given,
              UnorderedElementsAre(Pair("batch_size", 0), Pair("rate", 1), Pair("words", 3)));
}

TEST(ModuleFlags, BoolNeedsNoValue) {
  EXPECT_EQ(Parse({"--shuffle"}).values.at("shuffle"), "true");
  EXPECT_EQ(Parse({"--shuffle=false"}).values.at("shuffle"), "false");
  EXPECT_EQ(Parse({"--shuffle", "no"}).values.at("shuffle"), "no");
  EXPECT_EQ(Parse({"--shuffle", "--rate=1"}).values.at("shuffle"), "true");
}

TEST(ModuleFlags, EveryProblemIsReportedAtItsArgument) {
  EXPECT_THAT(
      Lines(Parse({"--batch_sise=7", "stray", "--rate=fast", "--words", "--batch_size=1",
                   "--batch_size=2"})),
      ElementsAre(
          "0: toy has no flag '--batch_sise'; write `--batch_size`",
          "1: 'stray' is not a flag; write --name=value",
          "2: --rate: 'fast' is not a number of double precision; write a number such as 0.001",
          "3: --words has no value; write --words=value",
          "5: --batch_size is repeated; keep one of them"));
}

TEST(ModuleFlags, ParseFlagsPutsAllProblemsIntoOneMessage) {
  const std::vector<std::string> args = {"--nonsense_of_mine", "1", "--rate=x"};
  const auto values = ParseFlags(Toy(), args, nullptr);
  ASSERT_FALSE(values.ok());
  const std::string message(values.status().message());
  EXPECT_THAT(message, HasSubstr("write one of --batch_size, --rate, --words, --shuffle"));
  EXPECT_THAT(message, HasSubstr("--rate: 'x'"));
}

TEST(ModuleFlags, GivenNamesAreReturned) {
  const std::vector<std::string> args = {"--rate=1", "--batch_size", "2"};
  std::vector<std::string> given;
  ASSERT_TRUE(ParseFlags(Toy(), args, &given).ok());
  EXPECT_THAT(given, UnorderedElementsAre("rate", "batch_size"));
}

TEST(FindModule, UnknownNameIsAnswered) {
  const auto module = FindModule("no_such_module_at_all.train");
  ASSERT_FALSE(module.ok());
  EXPECT_THAT(std::string(module.status().message()),
              HasSubstr("no module is called 'no_such_module_at_all'"));
}

TEST(FindModule, EveryModuleIsFoundWithAndWithoutPythonsSuffix) {
  for (const ModuleType* module : Modules()) {
    EXPECT_EQ(*FindModule(module->name), module);
    EXPECT_EQ(*FindModule(module->name + ".train"), module);
  }
}

TEST(ModuleFlags, FoldersOfDataAreTold) {
  const ModuleType readers = {"readers",
                              {{"clips", Flag::Type::kFolder, "data/clips", "", ""},
                               {"noise", Flag::Type::kFolder, "", "", ""},
                               {"more", Flag::Type::kFolder, "data/clips", "", ""},
                               {"words", Flag::Type::kString, "yes", "", ""}},
                              nullptr};
  const auto folders = [&](std::vector<std::string> args) {
    return FoldersOf(readers, ParseModuleFlags(readers, args).values);
  };
  EXPECT_THAT(folders({}), ElementsAre("data/clips"));
  EXPECT_THAT(folders({"--noise=s3://b/n"}), ElementsAre("data/clips", "s3://b/n"));
}

TEST(DataFolderTest, WhatWasBroughtStandsForWhatIsNotHere) {
  const harness::TemporaryFolder root;
  const std::string address = "gs://bucket/my clips",
                    brought = root.path() + "/" + NameWhereBrought(address);
  EXPECT_EQ(DataFolder(address, root.path()), address);
  ASSERT_TRUE(std::filesystem::create_directory(brought));
  EXPECT_EQ(DataFolder(address, root.path()), brought);
  EXPECT_EQ(DataFolder(address + "/", root.path()), brought);
  EXPECT_EQ(DataFolder(address, ""), address);
  EXPECT_EQ(DataFolder(root.path(), root.path()), root.path()) << "what is here is taken";
  EXPECT_NE(NameWhereBrought("gs://a/clips"), NameWhereBrought("gs://b/clips"));
}

}  // namespace
}  // namespace muster::worker
