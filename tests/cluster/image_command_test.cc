// The words of launch image.
#include "cluster/image_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

namespace muster::cluster {
namespace {

using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

struct Said {
  int code = 0;
  std::string out, err;
  std::vector<std::string> looked;  // what list and delete were given
};

Said Image(const std::vector<std::string>& words) {
  Said said;
  char *out = nullptr, *err = nullptr;
  size_t out_size = 0, err_size = 0;
  CommandContext context;
  context.words = words;
  context.out = open_memstream(&out, &out_size);
  context.err = open_memstream(&err, &err_size);
  said.code = RunImageCommand(
      context, "fresh",
      [](const ImageWords&, const ResolvedJob&, const Plan&, const LaunchFlags&) {
        ADD_FAILURE() << "a machine is rented";
        return 0;
      },
      [&](const CommandContext& inner) {
        said.looked = inner.words;
        return 7;
      });
  std::fclose(context.out);
  std::fclose(context.err);
  said.out.assign(out, out_size);
  said.err.assign(err, err_size);
  std::free(out);
  std::free(err);
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
  const Said said = Image({"delete", "kept", "--yes"});
  EXPECT_EQ(said.code, 7);
  EXPECT_THAT(said.looked, ElementsAre("delete", "kept", "--yes"));
}

}  // namespace
}  // namespace muster::cluster
