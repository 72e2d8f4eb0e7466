// What the metadata services of AWS and GCP say of a machine's end, over real HTTP, and what is
// none of it.
#include "cluster/notice.h"

#include <gtest/gtest.h>
#include <httplib.h>

#include <atomic>
#include <random>
#include <thread>

#include "telemetry/time.h"
#include "tests/cluster/metadata_service.h"

namespace muster::cluster {
namespace {

TEST(Notice, OfEc2NeedsATokenAndIsNotThereUntilItIs) {
  MetadataService service;
  EXPECT_FALSE(AskForNotice(Cluster::AWS, service.address(), 0));
  service.SetNotice(R"({"action": "terminate", "time": "2026-11-22T05:02:00Z"})");
  const auto notice = AskForNotice(Cluster::AWS, service.address(), 0);
  ASSERT_TRUE(notice);
  EXPECT_EQ(FormatTime(notice->ends_ms), "2026-11-22T05:02:00.000Z");
}

TEST(Notice, OfComputeEngineComesHalfAMinuteBefore) {
  std::atomic<bool> preempted = false;
  httplib::Server server;
  server.Get("/computeMetadata/v1/instance/preempted",
             [&](const httplib::Request& in, httplib::Response& out) {
               if (in.get_header_value("Metadata-Flavor") != "Google") out.status = 403;
               out.set_content(preempted ? "TRUE\n" : "FALSE\n", "text/plain");
             });
  const std::string address = "127.0.0.1:" + std::to_string(server.bind_to_any_port("127.0.0.1"));
  std::thread thread([&] { server.listen_after_bind(); });
  EXPECT_FALSE(AskForNotice(Cluster::GCP, address, 1000));
  preempted = true;
  const auto notice = AskForNotice(Cluster::GCP, address, 1000);
  EXPECT_EQ(notice.value_or(Notice()).ends_ms, 31'000);
  server.stop();
  thread.join();
}

TEST(Notice, WhereNobodyAnswersThereIsNone) {
  EXPECT_FALSE(AskForNotice(Cluster::AWS, "127.0.0.1:1", 0));
  EXPECT_FALSE(AskForNotice(Cluster::GCP, "127.0.0.1:1", 0));
  EXPECT_FALSE(AskForNotice(Cluster::KUBERNETES, "127.0.0.1:1", 0));
}

TEST(Notice, WhatIsNoneOfTheirAnswersIsNone) {
  for (const char* body :
       {"", "{}", "[]", "terminate", R"({"action": "terminate"})",
        R"({"action": "terminate", "time": "soon"})", R"({"action": 1, "time": 2})",
        R"({"action": "hibernate", "time": "2026-11-22T05:02:00Z"})",
        R"({"time": "2026-11-22T05:02:00Z"})"}) {
    EXPECT_FALSE(ParseEc2Notice(body)) << body;
  }
  for (const char* body : {"", "FALSE", "true", "TRUEFALSE", "<html>"}) {
    EXPECT_FALSE(ParseGceNotice(body, 0)) << body;
  }
  const uint64_t seed = std::random_device()();
  std::printf("seed %lu\n", seed);
  std::mt19937_64 random(seed);
  for (int i = 0; i < 500; ++i) {
    std::string body = R"({"action": "terminate", "time": "2026-11-22T05:02:00Z"})";
    body[random() % body.size()] = static_cast<char>(random());
    (void)ParseEc2Notice(body);
  }
}

}  // namespace
}  // namespace muster::cluster
