#include "cluster/providers.h"

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
