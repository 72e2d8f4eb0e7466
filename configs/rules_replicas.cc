// Rules of the four roles: counts, machine types and replica configurations.
#include <fmt/format.h>

#include <array>

#include "configs/nearest.h"
#include "configs/rule_reporter.h"
#include "configs/rules.h"
#include "configs/scalar.h"
#include "configs/tiers.h"

namespace muster {
namespace {

struct RoleFields {
  Role role;
  const char* name;   // in text
  const char* type;   // field names
  const char* count;  // null for the master
  const char* config;
};

constexpr std::array<RoleFields, 4> kRoles = {{
    {Role::kMaster, "the master", "masterType", nullptr, "masterConfig"},
    {Role::kWorker, "workers", "workerType", "workerCount", "workerConfig"},
    {Role::kParameterServer, "parameter servers", "parameterServerType", "parameterServerCount",
     "parameterServerConfig"},
    {Role::kEvaluator, "evaluators", "evaluatorType", "evaluatorCount", "evaluatorConfig"},
}};

std::string CategoryName(MachineType::Category category) {
  switch (category) {
    case MachineType::Category::kLegacy:
      return "a legacy type";
    case MachineType::Category::kComputeEngine:
      return "a Compute Engine type";
    case MachineType::Category::kEc2:
      return "an EC2 type";
  }
  return "";
}

class ReplicaRules {
 public:
  ReplicaRules(const Catalog& catalog, JobDraft* draft)
      : catalog_(catalog), report_("trainingInput", draft), input_(draft->job.training_input()) {}

  void Run() {
    for (const RoleFields& role : kRoles) {
      Count(role);
      Type(role);
      Config(role, ConfigOf(input_, role.role));
    }
    Containers();
  }

 private:
  bool custom() const { return input_.scale_tier() == CUSTOM; }
  std::string tier() const { return ScaleTier_Name(input_.scale_tier()); }
  bool tier_known() const { return input_.scale_tier() != SCALE_TIER_UNSPECIFIED; }

  std::string TypeOf(Role role) const {
    switch (role) {
      case Role::kMaster:
        return input_.master_type();
      case Role::kWorker:
        return input_.worker_type();
      case Role::kParameterServer:
        return input_.parameter_server_type();
      default:
        return input_.evaluator_type();
    }
  }
  int64_t CountOf(Role role) const {
    switch (role) {
      case Role::kMaster:
        return 1;
      case Role::kWorker:
        return input_.worker_count();
      case Role::kParameterServer:
        return input_.parameter_server_count();
      default:
        return input_.evaluator_count();
    }
  }

  void Count(const RoleFields& role) {
    if (role.count == nullptr) return;
    const int64_t count = CountOf(role.role);
    if (count < 0) {
      report_.Add(role.count, fmt::format("{} is negative", count), "write 0 or more");
    } else if (count > 0 && tier_known() && !custom()) {
      report_.Add(role.count,
                  fmt::format("counts are for scaleTier CUSTOM, and this is {}", tier()),
                  "write scaleTier: CUSTOM, or delete it");
    }
  }

  void Type(const RoleFields& role) {
    const std::string type = TypeOf(role.role);
    const int64_t count = CountOf(role.role);
    if (type.empty()) {
      if (custom() && count > 0) {
        report_.Add(role.type,
                    role.count == nullptr ? std::string("required with scaleTier CUSTOM")
                                          : fmt::format("required: {} is {}", role.count, count),
                    "write a machine type such as n1-standard-4 or standard");
      }
      return;
    }
    if (tier_known() && !custom()) {
      report_.Add(role.type,
                  fmt::format("machine types are for scaleTier CUSTOM, and this is {}", tier()),
                  "write scaleTier: CUSTOM, or delete it");
    } else if (role.count != nullptr && !report_.Given(role.count)) {
      report_.Add(role.type, fmt::format("without {}", role.count),
                  fmt::format("write {}: 1 or more, or delete it", role.count));
    }
    KnownType(role, type);
  }

  void KnownType(const RoleFields& role, const std::string& name) {
    const MachineType* type = catalog_.FindMachineType(name);
    if (type == nullptr) {
      report_.Add(role.type, fmt::format("unknown machine type {}", Quoted(name)),
                  WriteNearest(name, catalog_.MachineTypeNames()));
      return;
    }
    if (type->is_tpu()) {
      report_.Add(role.type,
                  fmt::format("{} is a TPU, and Muster computes on CPUs and GPUs only", name),
                  "write a machine type with GPUs, such as standard_v100");
    }
    const MachineType* master = catalog_.FindMachineType(input_.master_type());
    if (master != nullptr && master->category != type->category) {
      report_.Add(
          role.type,
          fmt::format("{} is {}, but masterType {} is {}", name, CategoryName(type->category),
                      master->name, CategoryName(master->category)),
          "write types of one kind for all roles");
    }
  }

  void Config(const RoleFields& role, const ReplicaConfig& config) {
    if (config.has_accelerator_config()) AcceleratorRules(role, config.accelerator_config());
    const std::string disk = JoinPath(role.config, "diskConfig");
    if (config.disk_config().has_boot_disk_size_gb() &&
        config.disk_config().boot_disk_size_gb() < 1) {
      report_.Add(disk + ".bootDiskSizeGb",
                  fmt::format("{} is too small", config.disk_config().boot_disk_size_gb()),
                  "write 1 or more");
    }
    const std::string& disk_type = config.disk_config().boot_disk_type();
    if (!disk_type.empty() && disk_type != "pd-ssd" && disk_type != "pd-standard") {
      report_.Add(disk + ".bootDiskType", fmt::format("{} is not a disk type", Quoted(disk_type)),
                  WriteNearest(disk_type, {"pd-ssd", "pd-standard"}));
    }
    if (!config.tpu_tf_version().empty()) {
      const bool tpu = config.accelerator_config().type().starts_with("TPU_") ||
                       TypeOf(role.role) == "cloud_tpu";
      if (role.role != Role::kWorker || !tpu || ImageOf(input_, role.role).empty()) {
        report_.Add(JoinPath(role.config, "tpuTfVersion"),
                    "only for TPU workers with a custom container", "delete it");
      }
    }
  }

  void AcceleratorRules(const RoleFields& role, const AcceleratorConfig& config) {
    const std::string path = JoinPath(role.config, "acceleratorConfig");
    if (!report_.Given(path + ".count")) {
      report_.Add(path + ".count", "required", "write 1 or more");
    } else if (config.count() < 1) {
      report_.Add(path + ".count", fmt::format("{} is too small", config.count()),
                  "write 1 or more");
    }
    if (config.type().empty()) {
      report_.Add(path + ".type", "required", "write a type such as NVIDIA_TESLA_V100");
    } else {
      AcceleratorType(path + ".type", config.type());
    }
    const MachineType* type = catalog_.FindMachineType(TypeOf(role.role));
    if (tier_known() && !custom()) {
      report_.Add(path,
                  fmt::format("accelerators are for scaleTier CUSTOM, and this is {}", tier()),
                  "write scaleTier: CUSTOM with Compute Engine machine types, or delete it");
    } else if (type != nullptr && type->category == MachineType::Category::kComputeEngine &&
               type->accelerator_count > 0) {
      report_.Add(path,
                  fmt::format("{} {} has {} x {} of its own", role.type, type->name,
                              type->accelerator_count, type->accelerator),
                  "delete it, or write an n1 type");
    } else if (type != nullptr && type->category == MachineType::Category::kEc2) {
      report_.Add(path,
                  fmt::format("accelerators attach to Compute Engine types, and {} {} is an EC2 "
                              "type, which has its own or none",
                              role.type, type->name),
                  "delete it, and write a type with GPUs such as g5.xlarge");
    } else if (type != nullptr && type->category == MachineType::Category::kLegacy) {
      report_.Add(
          path,
          fmt::format("accelerators attach to Compute Engine types, and {} {} is a legacy type",
                      role.type, type->name),
          fmt::format("write {}: {}, or a legacy type with GPUs and no acceleratorConfig",
                      role.type,
                      catalog_.FindMachineType(type->shape) ? type->shape : "n1-standard-8"));
    }
  }

  void AcceleratorType(const std::string& path, const std::string& name) {
    const Accelerator* accelerator = catalog_.FindAccelerator(name);
    if (accelerator == nullptr) {
      report_.Add(path, fmt::format("unknown accelerator {}", Quoted(name)),
                  WriteNearest(name, catalog_.AcceleratorNames()));
    } else if (accelerator->is_tpu()) {
      report_.Add(path, fmt::format("{} is a TPU, and Muster computes on CPUs and GPUs only", name),
                  "write a GPU such as NVIDIA_TESLA_V100");
    }
  }

  void Containers() {
    for (const RoleFields& role : kRoles) {
      const ReplicaConfig& config = ConfigOf(input_, role.role);
      const auto check = [&](const char* field, int size) {
        const std::string path = JoinPath(role.config, field);
        if (size > 0 && ImageOf(input_, role.role).empty()) {
          report_.Add(path, "only with a custom image",
                      fmt::format("write {}.imageUri, or delete it", role.config));
        }
        if (size > 0 && input_.args_size() > 0) {
          report_.Add(path, "together with args: they exclude each other", "keep one of them");
        }
      };
      check("containerCommand", config.container_command_size());
      check("containerArgs", config.container_args_size());
    }
  }

  const Catalog& catalog_;
  RuleReporter report_;
  const TrainingInput& input_;
};

}  // namespace

void CheckReplicas(const Catalog& catalog, JobDraft* draft) { ReplicaRules(catalog, draft).Run(); }

}  // namespace muster
