// How ssh is called, and what its complaints mean.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdio>

#include "cluster/hosts_run.h"
#include "cluster/ssh.h"

namespace muster::cluster {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// What a shell makes of `word`.
std::string Echo(const std::string& word) {
  std::FILE* pipe = popen(("printf %s " + word).c_str(), "r");
  std::array<char, 256> buffer{};
  const size_t n = std::fread(buffer.data(), 1, buffer.size(), pipe);
  pclose(pipe);
  return {buffer.data(), n};
}

TEST(Ssh, QuotedTextIsOneWordWhateverItHolds) {
  for (const std::string text : {"plain", "a b", "it's", "$(rm -rf x)", "\"`\\", "*", "\n;x"}) {
    EXPECT_EQ(Echo(ShellQuote(text)), text);
  }
}

TEST(Ssh, WordsNameWhatTheJobFileNamesAndAskNothing) {
  Ssh ssh;
  ssh.set_identity_file("/k");
  SshHost host;
  host.set_host("-oProxyCommand=x");
  host.set_user("u");
  host.set_port(2222);
  const std::vector<std::string> words = SshWords(ssh, host);
  for (const char* word : {"-oBatchMode=yes", "-i/k", "-lu", "-p2222"}) {
    EXPECT_THAT(words, Contains(word));
  }
  // What looks like an option is a host that there is not.
  EXPECT_EQ(words[words.size() - 2], "--");
  EXPECT_EQ(HostName(host), "u@-oProxyCommand=x:2222");
}

TEST(Ssh, ComplaintsSayWhatToDo) {
  SshHost host;
  host.set_host("h");
  const auto explain = [&](const std::string& text) { return ExplainSsh(Ssh(), host, text); };
  EXPECT_THAT(explain("h: Permission denied (publickey).\r\n"), HasSubstr("try ssh h"));
  EXPECT_THAT(explain("ssh: connect to host h port 22: No route to host\r\n"),
              HasSubstr("does not answer"));
  EXPECT_EQ(explain("Warning: x\nlast words\r\n"), "the connection ended: last words");
  EXPECT_EQ(explain(""), "the connection ended");
}

TEST(Ssh, MachinesTakeHostsInTurn) {
  const std::vector<LocalRole> roles = {{"master", 0, "master"}, {"ps", 0, "ps"},
                                        {"ps", 1, "ps"},         {"chief", 0, "worker"},
                                        {"worker", 0, "worker"}, {"worker", 1, "worker"}};
  EXPECT_THAT(PlaceRoles(roles, 5), ElementsAre(0, 3, 4, 0, 1, 2));
  EXPECT_THAT(PlaceRoles(roles, 3), ElementsAre(0, 0, 1, 0, 1, 2));
  EXPECT_THAT(PlaceRoles(roles, 1), ElementsAre(0, 0, 0, 0, 0, 0));
}

TEST(Ssh, ThreadsFitTheFullestHost) {
  const std::vector<LocalRole> roles = {
      {"master", 0, "master"}, {"ps", 0, "ps"}, {"chief", 0, "worker"}, {"worker", 0, "worker"}};
  EXPECT_EQ(ThreadsOf(roles, {0, 1, 0, 1}, {8, 4}), 4);
  EXPECT_EQ(ThreadsOf(roles, {0, 1, 0, 0}, {8, 2}), 4) << "a server's host does not count";
  EXPECT_EQ(ThreadsOf(roles, {0, 0, 0, 0}, {1}), 1);
  EXPECT_EQ(ThreadsOf({{"master", 0, "master"}}, {0}, {6}), 6);
}

}  // namespace
}  // namespace muster::cluster
