#include "tests/e2e/sites.h"

#include <fmt/format.h>

#include <cstdlib>

#include "tests/e2e/aws_cloud.h"
#include "tests/e2e/gcp_cloud.h"
#include "tests/e2e/kubernetes_cluster.h"
#include "tests/e2e/programs.h"
#include "tests/e2e/slurm_cluster.h"
#include "tests/e2e/ssh_hosts.h"

namespace muster::e2e {
namespace {

class SshSite : public Site {
 public:
  std::string problem() const override { return hosts_.problem(); }
  std::string cluster() const override { return hosts_.Cluster(); }
  std::map<std::string, std::string> environment(const std::string& home) const override {
    return {{"MUSTER_HOME", home + "/.muster"}};
  }
  std::vector<std::string> Held() const override {
    std::vector<std::string> held;
    for (int host = 0; host < kHosts; ++host) {
      for (const std::string& process : hosts_.ProcessesOn(host)) {
        held.push_back(fmt::format("{} on {}", process, hosts_.address(host)));
      }
    }
    return held;
  }
  bool rents() const override { return false; }

 private:
  static constexpr int kHosts = 3;
  const SshHosts hosts_{kHosts, NewFolder("hosts")};
};

class SlurmSite : public Site {
 public:
  std::string problem() const override { return slurm_.problem(); }
  std::string cluster() const override {
    return fmt::format("provider: SLURM, slurm: {{directory: {}}}", nodes_);
  }
  std::map<std::string, std::string> environment(const std::string& home) const override {
    auto environment = slurm_.environment();
    environment["HOME"] = home;
    return environment;
  }
  std::vector<std::string> Held() const override { return slurm_.Queue(); }
  bool keeps_folder() const override { return true; }

 private:
  const SlurmCluster slurm_{NewFolder("slurm")};
  const std::string nodes_ = NewFolder("nodes");
};

class KubernetesSite : public Site {
 public:
  explicit KubernetesSite(const std::string& more = "") : kubernetes_(NewFolder("pods"), more) {}
  std::string problem() const override { return kubernetes_.problem(); }
  std::string cluster() const override {
    return fmt::format("provider: KUBERNETES, kubernetes: {{programs: {}}}",
                       std::getenv("MUSTER_BIN"));
  }
  std::map<std::string, std::string> environment(const std::string& home) const override {
    auto environment = kubernetes_.environment();
    environment["HOME"] = home;
    return environment;
  }
  std::vector<std::string> Held() const override {
    std::vector<std::string> held = kubernetes_.Objects();
    for (const std::string& process : kubernetes_.Processes()) held.push_back(process);
    return held;
  }

 private:
  const KubernetesCluster kubernetes_;
};

template <typename Cloud>
class CloudSite : public Site {
 public:
  std::string problem() const override { return cloud_.problem(); }
  std::string cluster() const override { return Cloud::Cluster(); }
  std::map<std::string, std::string> environment(const std::string& home) const override {
    return cloud_.environment(home);
  }
  std::vector<std::string> Held() const override { return cloud_.Machines(); }

 private:
  const Cloud cloud_{NewFolder("cloud")};
};

template <typename S>
std::unique_ptr<Site> Make() {
  return std::make_unique<S>();
}

}  // namespace

const std::vector<SiteKind>& SiteKinds() {
  static const auto* const kinds = new std::vector<SiteKind>{
      {"Ssh", Make<SshSite>},
      {"Slurm", Make<SlurmSite>},
      {"Kubernetes", Make<KubernetesSite>},
      {"Aws", Make<CloudSite<AwsCloud>>},
      {"Gcp", Make<CloudSite<GcpCloud>>},
  };
  return *kinds;
}

}  // namespace muster::e2e
