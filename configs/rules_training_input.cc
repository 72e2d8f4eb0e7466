// Rules of trainingInput's own fields; those of the roles are in rules_replicas.cc.
#include <absl/strings/str_split.h>
#include <fmt/format.h>

#include "configs/rule_reporter.h"
#include "configs/rules.h"
#include "configs/scalar.h"

namespace muster {
namespace {

constexpr int kMaxPackages = 100;
constexpr int64_t kMinWaitSeconds = 1800;

class InputRules {
 public:
  explicit InputRules(JobDraft* draft)
      : report_("trainingInput", draft),
        input_(draft->job.training_input()),
        cluster_(draft->job.cluster()) {}

  void Run() {
    Tier();
    Program();
    Versions();
    Place();
    SchedulingRules();
  }

 private:
  void Tier() {
    if (input_.scale_tier() == BASIC_TPU) {
      report_.Add("scaleTier",
                  "BASIC_TPU asks for a Cloud TPU, and Muster computes on CPUs and GPUs only",
                  "write BASIC_GPU, or CUSTOM with machine types");
    } else if (input_.scale_tier() == SCALE_TIER_UNSPECIFIED) {
      report_.Add("scaleTier", "required",
                  "write BASIC, STANDARD_1, PREMIUM_1, BASIC_GPU or CUSTOM (or --scale-tier)");
    }
  }

  bool HasImage() const { return !input_.master_config().image_uri().empty(); }

  void Program() {
    if (input_.python_module().empty() && !HasImage()) {
      report_.Add("pythonModule", "required: it names what is trained",
                  "write pythonModule: speech_commands.train (or --module-name)");
    }
    if (input_.package_uris_size() > kMaxPackages) {
      report_.Add("packageUris", fmt::format("{} packages", input_.package_uris_size()),
                  fmt::format("write at most {}", kMaxPackages));
    }
    if (!input_.runtime_version().empty() && HasImage()) {
      report_.Add("runtimeVersion",
                  "together with masterConfig.imageUri, which brings its own runtime",
                  "keep one of them");
    }
  }

  // "1.15" -> 115; -1 when it is no version.
  static int Version(const std::string& text) {
    const std::vector<std::string> parts = absl::StrSplit(text, '.');
    Wrong unused;
    if (parts.size() != 2) return -1;
    const auto major = ParseInt(parts[0], 0, 99, &unused);
    const auto minor = ParseInt(parts[1], 0, 99, &unused);
    return major && minor ? static_cast<int>(*major * 100 + *minor) : -1;
  }

  void Versions() {
    const int runtime = Version(input_.runtime_version());
    if (!input_.runtime_version().empty() && runtime < 0) {
      report_.Add("runtimeVersion",
                  fmt::format("{} is not a version", Quoted(input_.runtime_version())),
                  "write major.minor, such as 1.15");
    }
    const std::string& python = input_.python_version();
    if (python.empty()) return;
    if (python != "3.7" && python != "3.5" && python != "2.7") {
      report_.Add("pythonVersion", fmt::format("{} is not one of 3.7, 3.5, 2.7", Quoted(python)),
                  "write one of these");
      return;
    }
    if (runtime < 0) return;
    const bool fits = python == "3.7"   ? runtime >= 115
                      : python == "3.5" ? runtime >= 104 && runtime <= 114
                                        : runtime <= 115;
    if (!fits) {
      report_.Add("pythonVersion",
                  fmt::format("{} does not exist in runtime {}", python, input_.runtime_version()),
                  "write 3.7 for runtime 1.15 and later, 3.5 for 1.4 to 1.14, 2.7 up to 1.15");
    }
  }

  void Place() {
    const bool cloud = cluster_.provider() == Cluster::GCP || cluster_.provider() == Cluster::AWS;
    const bool listed = !cluster_.aws().regions().empty() || !cluster_.aws().zones().empty() ||
                        !cluster_.gcp().regions().empty() || !cluster_.gcp().zones().empty();
    if (cloud && input_.region().empty() && !listed) {
      report_.Add(
          "region",
          fmt::format("required by provider {}", Cluster::Provider_Name(cluster_.provider())),
          "write the region to rent in (or --region)");
    }
    const std::vector<std::string> parts = absl::StrSplit(input_.network(), '/');
    const bool network_ok = parts.size() == 5 && parts[0] == "projects" && !parts[1].empty() &&
                            parts[2] == "global" && parts[3] == "networks" && !parts[4].empty();
    if (!input_.network().empty() && !network_ok) {
      report_.Add("network", fmt::format("{} is not a network", Quoted(input_.network())),
                  "write projects/NUMBER/global/networks/NAME");
    }
    if (input_.has_encryption_config() && input_.encryption_config().kms_key_name().empty()) {
      report_.Add("encryptionConfig.kmsKeyName", "required in encryptionConfig",
                  "write the key's name");
    }
  }

  void SchedulingRules() {
    const Scheduling& scheduling = input_.scheduling();
    const auto nanoseconds = [](const google::protobuf::Duration& d) {
      return static_cast<double>(d.seconds()) * 1e9 + d.nanos();
    };
    if (scheduling.has_max_running_time() && nanoseconds(scheduling.max_running_time()) <= 0) {
      report_.Add("scheduling.maxRunningTime", "not longer than 0 s", "write a time such as 7200s");
    }
    if (scheduling.has_max_wait_time() &&
        nanoseconds(scheduling.max_wait_time()) < kMinWaitSeconds * 1e9) {
      report_.Add("scheduling.maxWaitTime", fmt::format("shorter than {} s", kMinWaitSeconds),
                  fmt::format("write at least {}s", kMinWaitSeconds));
    }
    if (scheduling.priority() < 0 || scheduling.priority() > 1000) {
      report_.Add("scheduling.priority", fmt::format("{} is out of range", scheduling.priority()),
                  "write a number from 0 to 1000");
    }
  }

  RuleReporter report_;
  const TrainingInput& input_;
  const Cluster& cluster_;
};

}  // namespace

void CheckTrainingInput(JobDraft* draft) { InputRules(draft).Run(); }

}  // namespace muster
