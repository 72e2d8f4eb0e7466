// World: a launcher's surroundings in memory, for tests that every provider passes: its cloud
// (tests/cluster/fake_cloud.h), time, and what the user is told.
//
// Owned by one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "cluster/journal.h"
#include "cluster/node_set.h"
#include "cluster/providers.h"
#include "tests/cluster/fake_cloud.h"

namespace muster::cluster {

struct CloudKind {
  Cluster::Provider provider;
  std::unique_ptr<FakeCloud> (*make)(FakeCloudOptions options);
  const char* create;        // FakeCloud's name of the call that makes machines
  const char* no_room;       // what it says then
  const char* no_quota;      // and then
  const char* ask_for_more;  // the command that the user is told
};
inline void PrintTo(const CloudKind& kind, std::ostream* out) {
  *out << Cluster::Provider_Name(kind.provider);
}

inline constexpr CloudKind kCloudKinds[] = {
    {Cluster::AWS, MakeFakeEc2, "run-instances", "InsufficientInstanceCapacity",
     "VcpuLimitExceeded", "request-service-quota-increase"},
    {Cluster::GCP, MakeFakeGce, "bulk create", "not have enough resources", "Quota 'CPUS' exceeded",
     "gcloud beta quotas preferences create"},
};

// Settings of a job file, with two regions, of which the clouds have zones "us-east1-a" and so on.
inline Cluster TwoRegions(const CloudKind& kind) {
  Cluster cluster;
  cluster.set_provider(kind.provider);
  for (const char* region : {"us-east1", "eu-west1"}) {
    if (kind.provider == Cluster::AWS) cluster.mutable_aws()->add_regions(region);
    if (kind.provider == Cluster::GCP) cluster.mutable_gcp()->add_regions(region);
  }
  if (kind.provider == Cluster::AWS) {
    cluster.mutable_aws()->set_image("ami-1");
    cluster.mutable_aws()->set_scheduler_role("arn:aws:iam::123456789012:role/ends");
  }
  return cluster;
}

inline MachineOrder OrderOf(int64_t workers, int64_t servers, const std::string& run = "mu1") {
  MachineOrder order;
  order.job_id = "job";
  order.run = run;
  order.owner = "me@here";
  order.lifetime_s = 3600;
  order.groups = {{.role = Role::kMaster, .count = 1, .type = "m6i.xlarge", .vcpus = 4}};
  if (workers > 0) {
    order.groups.push_back(
        {.role = Role::kWorker, .count = workers, .type = "c6i.2xlarge", .vcpus = 8});
  }
  if (servers > 0) {
    order.groups.push_back(
        {.role = Role::kParameterServer, .count = servers, .type = "r6i.xlarge", .vcpus = 4});
  }
  return order;
}

inline MachineOrder SpotWorkers(MachineOrder order) {
  for (MachineGroup& group : order.groups) group.spot = group.role == Role::kWorker;
  return order;
}

inline JournalHead HeadOf(const CloudKind& kind, const MachineOrder& order) {
  return {.job_id = order.job_id,
          .run = order.run,
          .job_dir = "/j",
          .owner = order.owner,
          .cluster = TwoRegions(kind)};
}

class World {
 public:
  World(const CloudKind& kind, FakeCloudOptions options)
      : cluster(TwoRegions(kind)), cloud(kind.make(std::move(options))) {
    patience.now_ms = [this] { return now_ms; };
    patience.pause = [this](int64_t ms) {
      now_ms += ms;
      return now_ms < interrupt_ms;
    };
    tools = [this](const std::vector<std::string>& words, int64_t, const std::string&) {
      now_ms += 50;
      return cloud->Run(words, now_ms);
    };
  }
  std::unique_ptr<Provider> MakeProvider() {
    return cluster::MakeProvider(
        {.cluster = cluster, .tools = tools, .patience = patience, .public_key = "key"});
  }
  Say Listen() {
    return [this](const std::string& line) { said.push_back(line); };
  }

  const Cluster cluster;
  const std::unique_ptr<FakeCloud> cloud;
  int64_t now_ms = 1'000'000, interrupt_ms = INT64_MAX;
  Patience patience;
  ToolRunner tools;
  std::vector<std::string> said;
};

}  // namespace muster::cluster
