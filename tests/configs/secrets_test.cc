// What is shaped like a secret key is found, and what is not is left alone.
#include "configs/secrets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "configs/job_yaml.h"

namespace muster {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Put together here, so that no file of ours looks as if it held one.
std::string Key(const std::string& prefix, size_t length, char c = 'A') {
  return prefix + std::string(length, c);
}

TEST(Secrets, AreFoundWhereverTheyStand) {
  for (const std::string& secret :
       {Key("AKIA", 16), Key("ASIA", 16, '7'), Key("AIza", 35, '_'), Key("ghp_", 36, 'x'),
        Key("github_pat_", 40), Key("hf_", 34), Key("xoxb-", 24, '1'),
        "-----BEGIN RSA " + std::string("PRIVATE KEY-----"),
        "aws_secret_access_key = " + Key("", 40, '/')}) {
    for (const std::string& text : {secret, "args: [--key=" + secret + "]", "# " + secret + "\n"}) {
      EXPECT_TRUE(FindSecret(text).has_value()) << text;
    }
  }
}

TEST(Secrets, WhatOnlyBeginsLikeOneIsLeftAlone) {
  for (const std::string& text :
       {Key("AKIA", 15), "X" + Key("AKIA", 16), std::string("ghp_short"), std::string("hf_model"),
        std::string("-----BEGIN CERTIFICATE-----"), std::string("secret_access_key: see the vault"),
        std::string("s3://bucket/a/b/c"), std::string()}) {
    EXPECT_FALSE(FindSecret(text).has_value()) << text;
  }
}

TEST(Secrets, AJobFileWithOneIsRefusedAtItsLineWithoutRepeatingIt) {
  const std::string secret = Key("AKIA", 16, 'Q');
  JobDraft draft;
  ReadJobYaml("trainingInput:\n  scaleTier: BASIC  # " + secret +
                  "\n  args: [--token=" + Key("ghp_", 36, 'q') + "]\n",
              "job.yaml", &draft);
  const std::string text = draft.problems.Text();
  EXPECT_THAT(text, HasSubstr("job.yaml:2:23: looks like an access key of AWS; delete it"));
  EXPECT_THAT(text, HasSubstr("job.yaml:3:18: looks like a token of GitHub"));
  EXPECT_THAT(text, Not(HasSubstr(secret)));
}

}  // namespace
}  // namespace muster
