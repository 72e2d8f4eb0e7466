#include "configs/tiers.h"

#include <array>

namespace muster {
namespace {

struct TierRow {
  ScaleTier tier;
  const char* master;
  int64_t workers;
  const char* worker;
  int64_t servers;
  const char* server;
};

constexpr std::array<TierRow, 5> kTiers = {{
    {BASIC, "standard", 0, "", 0, ""},
    {STANDARD_1, "complex_model_s", 4, "complex_model_s", 3, "standard"},
    {PREMIUM_1, "complex_model_m", 19, "complex_model_m", 11, "large_model"},
    {BASIC_GPU, "standard_gpu", 0, "", 0, ""},
    {BASIC_TPU, "cloud_tpu", 0, "", 0, ""},
}};

RoleSize CustomSize(const TrainingInput& input, Role role) {
  switch (role) {
    case Role::kMaster:
      return {1, input.master_type()};
    case Role::kWorker:
      return {input.worker_count(), input.worker_type()};
    case Role::kParameterServer:
      return {input.parameter_server_count(), input.parameter_server_type()};
    case Role::kEvaluator:
      return {input.evaluator_count(), input.evaluator_type()};
  }
  return {};
}

}  // namespace

const char* RoleName(Role role) {
  switch (role) {
    case Role::kMaster:
      return "master";
    case Role::kWorker:
      return "worker";
    case Role::kParameterServer:
      return "ps";
    case Role::kEvaluator:
      return "evaluator";
  }
  return "";
}

std::optional<Role> RoleOf(std::string_view name) {
  for (const Role role : {Role::kMaster, Role::kWorker, Role::kParameterServer, Role::kEvaluator}) {
    if (name == RoleName(role)) return role;
  }
  return std::nullopt;
}

RoleSize SizeOf(const TrainingInput& input, Role role) {
  for (const TierRow& row : kTiers) {
    if (row.tier != input.scale_tier()) continue;
    if (role == Role::kMaster) return {1, row.master};
    if (role == Role::kWorker) return {row.workers, row.worker};
    if (role == Role::kParameterServer) return {row.servers, row.server};
    return {};
  }
  return CustomSize(input, role);
}

const ReplicaConfig& ConfigOf(const TrainingInput& input, Role role) {
  switch (role) {
    case Role::kMaster:
      return input.master_config();
    case Role::kWorker:
      return input.worker_config();
    case Role::kParameterServer:
      return input.parameter_server_config();
    default:
      return input.evaluator_config();
  }
}

std::string ImageOf(const TrainingInput& input, Role role) {
  const std::string& own = ConfigOf(input, role).image_uri();
  return own.empty() ? input.master_config().image_uri() : own;
}

AcceleratorConfig AcceleratorsOf(const TrainingInput& input, Role role, const Catalog& catalog) {
  const AcceleratorConfig& attached = ConfigOf(input, role).accelerator_config();
  if (attached.count() > 0) return attached;
  AcceleratorConfig built_in;
  const MachineType* type = catalog.FindMachineType(SizeOf(input, role).machine_type);
  if (type == nullptr) return built_in;
  built_in.set_count(type->accelerator_count);
  built_in.set_type(type->accelerator);
  return built_in;
}

bool RunsInOneProcess(ScaleTier tier) { return tier == BASIC || tier == BASIC_GPU; }

}  // namespace muster
