#include "cluster/tf_config.h"

#include <gtest/gtest.h>

namespace muster::cluster {
namespace {

TfCluster NineWorkers() {
  return {.master_address = "127.0.0.1:43567",
          .workers = 2,
          .servers = 1,
          .job_name = "speech_commands.train",
          .args = {"--x=1"}};
}

TEST(TfConfigTest, NamesTheTaskAndTheCluster) {
  EXPECT_EQ(TfConfig(NineWorkers(), "worker", 1),
            R"({"job":{"job_name":"speech_commands.train","args":["--x=1"]},)"
            R"("task":{"type":"worker","index":1},)"
            R"("cluster":{"master":["127.0.0.1:43567"],"ps":["localhost:0"],)"
            R"("worker":["localhost:0","localhost:0"]},"environment":"cloud"})");
}

TEST(TfConfigTest, TheChiefTrainerIsTheMaster) {
  const std::string text = TfConfig(NineWorkers(), "chief", 0);
  EXPECT_NE(text.find(R"("task":{"type":"master","index":0})"), std::string::npos);
}

TEST(TfConfigTest, TheMasterIsCalledChiefOnRequest) {
  TfCluster cluster = NineWorkers();
  cluster.use_chief = true;
  const std::string text = TfConfig(cluster, "master", 0);
  EXPECT_NE(text.find(R"("task":{"type":"chief","index":0})"), std::string::npos);
  EXPECT_NE(text.find(R"("cluster":{"chief":[)"), std::string::npos);
}

TEST(TfConfigTest, AJobOfOneProcessHasNoCluster) {
  const std::string text = TfConfig({.job_name = "m"}, "master", 0);
  EXPECT_NE(text.find(R"("task":{},"cluster":{})"), std::string::npos);
}

}  // namespace
}  // namespace muster::cluster
