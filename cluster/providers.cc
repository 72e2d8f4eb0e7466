#include "cluster/providers.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "cluster/aws_provider.h"
#include "telemetry/check.h"

namespace muster::cluster {
namespace {

std::unique_ptr<Provider> MakeAws(const ProviderSetup& setup) {
  return std::make_unique<AwsProvider>(setup.cluster.aws(), setup.public_key, setup.tools,
                                       setup.patience, setup.reach);
}

struct Row {
  Cluster::Provider provider;
  std::unique_ptr<Provider> (*make)(const ProviderSetup& setup);
  std::string (*folder)(const Cluster& cluster);
};
constexpr Row kProviders[] = {
    {Cluster::AWS, MakeAws, [](const Cluster& cluster) { return cluster.aws().directory(); }},
};

const Row* Find(Cluster::Provider provider) {
  for (const Row& row : kProviders) {
    if (row.provider == provider) return &row;
  }
  return nullptr;
}

}  // namespace

ToolRunner MakeToolRunner(std::vector<std::string> environment) {
  const std::string path = Variable(environment, "PATH");
  // aws repeats a refusal for want of room four times, for ten seconds.
  for (const char* entry : {"AWS_RETRY_MODE=standard", "AWS_MAX_ATTEMPTS=1", "AWS_PAGER="}) {
    const std::string name(entry, std::string_view(entry).find('=') + 1);
    std::erase_if(environment, [&](const std::string& old) { return old.starts_with(name); });
    environment.emplace_back(entry);
  }
  return [environment = std::move(environment), path](const std::vector<std::string>& words,
                                                      int64_t timeout_ms) {
    return RunTool(words, environment, path, timeout_ms);
  };
}

bool MakesMachines(Cluster::Provider provider) { return Find(provider) != nullptr; }

std::unique_ptr<Provider> MakeProvider(const ProviderSetup& setup) {
  const Row* row = Find(setup.cluster.provider());
  CHECK(row != nullptr);
  return row->make(setup);
}

std::string MachineFolder(const Cluster& cluster) {
  const Row* row = Find(cluster.provider());
  return row == nullptr ? "" : row->folder(cluster);
}

}  // namespace muster::cluster
