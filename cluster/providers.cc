#include "cluster/providers.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string_view>
#include <utility>

#include "cluster/aws_provider.h"
#include "cluster/begun_tools.h"
#include "cluster/gcp_provider.h"
#include "cluster/kubernetes.h"
#include "cluster/slurm_provider.h"
#include "cluster/ssh_provider.h"
#include "telemetry/check.h"
#include "telemetry/crc32c.h"

namespace muster::cluster {
namespace {

std::unique_ptr<Provider> MakeAws(const ProviderSetup& setup) {
  return std::make_unique<AwsProvider>(setup.cluster.aws(), setup.public_key, setup.tools,
                                       setup.patience, setup.reach, setup.shortcuts);
}

std::unique_ptr<Provider> MakeKubernetes(const ProviderSetup& setup) {
  return std::make_unique<KubernetesProvider>(setup.cluster.kubernetes(), setup.tools,
                                              setup.environment, setup.build_id);
}

std::unique_ptr<Provider> MakeGcp(const ProviderSetup& setup) {
  return std::make_unique<GcpProvider>(setup.cluster.gcp(), setup.public_key, setup.tools,
                                       setup.patience, setup.reach, setup.shortcuts);
}

std::unique_ptr<Provider> MakeSsh(const ProviderSetup& setup) {
  return std::make_unique<SshProvider>(setup.cluster.ssh(), setup.environment, setup.build_id);
}

std::unique_ptr<Provider> MakeSlurm(const ProviderSetup& setup) {
  return std::make_unique<SlurmProvider>(setup.cluster.slurm(), setup.tools, setup.environment,
                                         setup.program_dir, setup.build_id);
}

struct Row {
  Cluster::Provider provider;
  bool makes, by_ssh, bills;
  std::unique_ptr<Provider> (*make)(const ProviderSetup& setup);
  std::string (*folder)(const Cluster& cluster);
};
constexpr Row kProviders[] = {
    {Cluster::AWS, /*makes=*/true, /*by_ssh=*/true, /*bills=*/true, MakeAws,
     [](const Cluster& cluster) { return cluster.aws().directory(); }},
    {Cluster::GCP, /*makes=*/true, /*by_ssh=*/true, /*bills=*/true, MakeGcp,
     [](const Cluster& cluster) { return cluster.gcp().directory(); }},
    {Cluster::KUBERNETES, /*makes=*/true, /*by_ssh=*/false, /*bills=*/false, MakeKubernetes,
     [](const Cluster& cluster) { return cluster.kubernetes().directory(); }},
    {Cluster::SLURM, /*makes=*/true, /*by_ssh=*/false, /*bills=*/false, MakeSlurm,
     [](const Cluster& cluster) { return cluster.slurm().directory(); }},
    {Cluster::SSH, /*makes=*/false, /*by_ssh=*/false, /*bills=*/false, MakeSsh,
     [](const Cluster& cluster) { return cluster.ssh().directory(); }},
};

const Row* Find(Cluster::Provider provider) {
  for (const Row& row : kProviders) {
    if (row.provider == provider) return &row;
  }
  return nullptr;
}

}  // namespace

Tools MakeTools(std::vector<std::string> environment) {
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
  const auto tools = std::make_shared<BegunTools>(std::move(environment));
  return {.run = [tools](const std::vector<std::string>& words, int64_t timeout_ms,
                         const std::string& input) { return tools->Run(words, timeout_ms, input); },
          .begin = [tools](const std::vector<std::string>& words) { tools->Begin(words); }};
}

ToolRunner MakeToolRunner(std::vector<std::string> environment) {
  return MakeTools(std::move(environment)).run;
}

DayFolder FactsOf(const std::string& folder, const std::vector<std::string>& environment) {
  std::string login;
  for (const char* name :
       {"AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_ENDPOINT_URL", "CLOUDSDK_CONFIG", "CLOUDSDK_ACTIVE_CONFIG_NAME",
        "CLOUDSDK_CORE_ACCOUNT", "CLOUDSDK_CORE_PROJECT"}) {
    login += Variable(environment, name) + "\n";
  }
  return DayFolder(folder.empty() ? "" : fmt::format("{}/{:08x}", folder, Crc32c(login)));
}

bool MakesMachines(Cluster::Provider provider) {
  const Row* row = Find(provider);
  return row != nullptr && row->makes;
}

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
