// The words of launch image.
#include "cluster/image_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/cluster/said.h"

namespace muster::cluster {
namespace {

using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct ImageSaid : Said {
  std::vector<std::string> looked = {};  // what list and delete were given
};

ImageSaid Image(const std::vector<std::string>& words) {
  ImageSaid said;
  static_cast<Said&>(said) = RunSaid(words, [&](const CommandContext& context) {
    return RunImageCommand(
        context, "fresh",
        [](const ImageWords&, const ResolvedJob&, const Plan&, const LaunchFlags&) {
          ADD_FAILURE() << "a machine is rented";
          return 0;
        },
        [&](const CommandContext& inner) {
          said.looked = inner.words;
          return 7;
        });
  });
  return said;
}

TEST(ImageCommand, WordsThatMakeNoSenseAreOneLine) {
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{},
                                             {"bak"},
                                             {"--config", "job.yaml"},
                                             {"bake", "--name"},
                                             {"bake", "--name="},
                                             {"bake", "--name", "No Name"},
                                             {"bake", "--name", "a", "--name=b"},
                                             {"bake", "--role", "cook"},
                                             {"bake", "--role", "evaluator"},
                                             {"bake", "--role", "ps", "--role", "worker"},
                                             {"bake", "--config", "/nowhere.yaml"}}) {
    const Said said = Image(words);
    EXPECT_EQ(said.code, 2);
    EXPECT_THAT(said.err, ContainsRegex("^[^\n]+\n$"));
    EXPECT_EQ(said.out, "");
  }
  EXPECT_THAT(Image({"lst"}).err, HasSubstr("launch image does not know 'lst'; write `list`"));
}

TEST(ImageCommand, HelpIsShownAndListAndDeleteAreLookedAfter) {
  for (const std::vector<std::string>& words :
       std::vector<std::vector<std::string>>{{"--help"}, {"bake", "-h"}, {"list", "--help"}}) {
    const Said said = Image(words);
    EXPECT_EQ(said.code, 0);
    EXPECT_THAT(said.out, HasSubstr("launch image delete NAME"));
  }
  const ImageSaid said = Image({"delete", "kept", "--yes"});
  EXPECT_EQ(said.code, 7);
  EXPECT_THAT(said.looked, ElementsAre("delete", "kept", "--yes"));
}

}  // namespace
}  // namespace muster::cluster
