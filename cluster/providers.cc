#include "cluster/providers.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "cluster/aws_provider.h"
#include "cluster/gcp_provider.h"
#include "cluster/kubernetes.h"
#include "telemetry/check.h"

namespace muster::cluster {
namespace {

std::unique_ptr<Provider> MakeAws(const ProviderSetup& setup) {
  return std::make_unique<AwsProvider>(setup.cluster.aws(), setup.public_key, setup.tools,
                                       setup.patience, setup.reach);
}

std::unique_ptr<Provider> MakeKubernetes(const ProviderSetup& setup) {
  return std::make_unique<KubernetesProvider>(setup.cluster.kubernetes(), setup.tools,
                                              setup.environment, setup.build_id);
}

std::unique_ptr<Provider> MakeGcp(const ProviderSetup& setup) {
  return std::make_unique<GcpProvider>(setup.cluster.gcp(), setup.public_key, setup.tools,
                                       setup.patience, setup.reach);
}

struct Row {
  Cluster::Provider provider;
  bool by_ssh, bills;
  std::unique_ptr<Provider> (*make)(const ProviderSetup& setup);
  std::string (*folder)(const Cluster& cluster);
};
constexpr Row kProviders[] = {
    {Cluster::AWS, /*by_ssh=*/true, /*bills=*/true, MakeAws,
     [](const Cluster& cluster) { return cluster.aws().directory(); }},
    {Cluster::GCP, /*by_ssh=*/true, /*bills=*/true, MakeGcp,
     [](const Cluster& cluster) { return cluster.gcp().directory(); }},
    {Cluster::KUBERNETES, /*by_ssh=*/false, /*bills=*/false, MakeKubernetes,
     [](const Cluster& cluster) { return cluster.kubernetes().directory(); }},
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
  // aws repeats a refusal for want of room four times, for ten seconds; gcloud looks for news of
  // itself, tells of its use, and can be made to keep warnings for itself: of lists that are not
  // whole.
  for (const char* entry :
       {"AWS_RETRY_MODE=standard", "AWS_MAX_ATTEMPTS=1",
        "AWS_PAGER=", "CLOUDSDK_CORE_DISABLE_PROMPTS=1", "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING=1",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK=1", "CLOUDSDK_CORE_VERBOSITY=warning",
        "CLOUDSDK_CORE_USER_OUTPUT_ENABLED=true"}) {
    const std::string name(entry, std::string_view(entry).find('=') + 1);
    std::erase_if(environment, [&](const std::string& old) { return old.starts_with(name); });
    environment.emplace_back(entry);
  }
  return [environment = std::move(environment), path](
             const std::vector<std::string>& words, int64_t timeout_ms, const std::string& input) {
    return RunTool(words, environment, path, timeout_ms, input);
  };
}

bool MakesMachines(Cluster::Provider provider) { return Find(provider) != nullptr; }

bool IsReachedBySsh(Cluster::Provider provider) {
  const Row* row = Find(provider);
  return row != nullptr && row->by_ssh;
}

bool BillsTheUser(Cluster::Provider provider) {
  const Row* row = Find(provider);
  return row != nullptr && row->bills;
}

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
