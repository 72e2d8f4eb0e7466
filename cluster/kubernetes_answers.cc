#include "cluster/kubernetes_answers.h"

#include <absl/strings/numbers.h>

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "cluster/kubernetes_manifest.h"
#include "master/json_fields.h"

namespace muster::cluster {
namespace {

using master::Fields;
using master::Json;
using master::ParseJsonObject;

constexpr char kIndex[] = "batch.kubernetes.io/job-completion-index";
constexpr char kJobName[] = "batch.kubernetes.io/job-name";
// More pods of one role than any job has.
constexpr int64_t kMaxPods = 100'000;

struct Meta {
  std::string name, created, deleted;
  std::map<std::string, std::string> labels, annotations;

  std::string label(const char* key) const { return Find(labels, key); }
  std::string annotation(const char* key) const { return Find(annotations, key); }

 private:
  static std::string Find(const std::map<std::string, std::string>& values, const char* key) {
    const auto found = values.find(key);
    return found == values.end() ? "" : found->second;
  }
};

Meta ReadMeta(Fields* object) {
  Meta meta;
  object->Require("metadata");
  if (const Json* found = object->Object("metadata")) {
    Fields fields(*found, object->path("metadata."));
    fields.Require("name");
    fields.Read("name", &meta.name);
    fields.Read("deletionTimestamp", &meta.deleted);
    fields.Read("labels", &meta.labels);
    fields.Read("annotations", &meta.annotations);
    object->Merge(fields.status());
  }
  return meta;
}

// The machine that an object's labels speak of; nullopt when they are not ours.
std::optional<Machine> MachineOf(const Meta& meta) {
  Machine machine;
  machine.job_id = meta.annotation(kJobIdAnnotation);
  if (machine.job_id.empty()) machine.job_id = meta.label(kJobLabel);
  machine.owner = meta.annotation(kOwnerAnnotation);
  bool known = false;
  for (const Role role : {Role::kMaster, Role::kWorker, Role::kParameterServer}) {
    if (meta.label(kRoleLabel) != RoleName(role)) continue;
    machine.role = role;
    known = true;
  }
  if (!known || machine.job_id.empty() ||
      !absl::SimpleAtoi(meta.label(kAttemptLabel), &machine.attempt)) {
    return std::nullopt;
  }
  return machine;
}

std::string Reason(const std::string& reason, const std::string& message) {
  return message.empty() ? reason : reason.empty() ? message : reason + ": " + message;
}

// The reason in `object`.name, which has fields reason and message.
std::string ReasonIn(Fields* object, const char* name) {
  const Json* found = object->Object(name);
  if (found == nullptr) return "";
  Fields fields(*found, object->path(name) + ".");
  std::string reason, message;
  fields.Read("reason", &reason);
  fields.Read("message", &message);
  object->Merge(fields.status());
  // As it should be.
  if (reason == "ContainerCreating" || reason == "PodInitializing" || reason == "Completed") {
    return "";
  }
  return Reason(reason, message);
}

// Why a pod waits or has ended.
std::string WhyOf(Fields* status) {
  std::string reason, message;
  status->Read("reason", &reason);
  status->Read("message", &message);
  std::string why = Reason(reason, message);
  if (const Json* conditions = status->Objects("conditions"); conditions && why.empty()) {
    for (const Json& condition : *conditions) {
      Fields fields(condition, status->path("conditions[]."));
      std::string type, value, text;
      fields.Read("type", &type);
      fields.Read("status", &value);
      fields.Read("message", &text);
      status->Merge(fields.status());
      if (type == "PodScheduled" && value == "False") why = text;
    }
  }
  if (const Json* containers = status->Objects("containerStatuses"); containers && why.empty()) {
    for (const Json& container : *containers) {
      Fields fields(container, status->path("containerStatuses[]."));
      if (const Json* state = fields.Object("state")) {
        Fields states(*state, fields.path("state."));
        for (const char* name : {"waiting", "terminated"}) {
          if (why.empty()) why = ReasonIn(&states, name);
        }
        fields.Merge(states.status());
      }
      status->Merge(fields.status());
    }
  }
  return why;
}

absl::Status ReadPod(const Json& item, KubernetesMachines* found,
                     std::set<std::pair<std::string, std::string>>* there) {
  Fields fields(item, "pod.");
  const Meta meta = ReadMeta(&fields);
  std::string phase, address, why;
  if (const Json* object = fields.Object("status")) {
    Fields status(*object, "pod.status.");
    status.Read("phase", &phase);
    status.Read("podIP", &address);
    why = WhyOf(&status);
    fields.Merge(status.status());
  }
  RETURN_IF_ERROR(fields.status());
  std::optional<Machine> machine = MachineOf(meta);
  int64_t index = 0;
  if (!machine || !absl::SimpleAtoi(meta.annotation(kIndex), &index) || index < 0 ||
      index >= kMaxPods) {
    return absl::OkStatus();
  }
  machine->id = meta.name;
  machine->index = static_cast<int>(index);
  machine->reason = why;
  if (!meta.deleted.empty() || phase == "Succeeded" || phase == "Failed") {
    machine->state = MachineState::kGone;
  } else if (phase == "Running" && !address.empty()) {
    machine->state = MachineState::kRunning;
    machine->address = address;
  }
  there->emplace(meta.label(kJobName), meta.annotation(kIndex));
  found->machines.push_back(*std::move(machine));
  return absl::OkStatus();
}

// The pods of a job that should be there and are not.
absl::Status AddUnmade(const Json& item, KubernetesMachines* found,
                       const std::set<std::pair<std::string, std::string>>& there) {
  Fields fields(item, "job.");
  const Meta meta = ReadMeta(&fields);
  int64_t completions = 0;
  bool ended = !meta.deleted.empty();
  if (const Json* object = fields.Object("spec")) {
    Fields spec(*object, "job.spec.");
    spec.Read("completions", &completions);
    fields.Merge(spec.status());
  }
  if (const Json* object = fields.Object("status")) {
    Fields status(*object, "job.status.");
    if (const Json* conditions = status.Objects("conditions")) {
      for (const Json& condition : *conditions) {
        std::string type, value;
        Fields of(condition, "job.status.conditions[].");
        of.Read("type", &type);
        of.Read("status", &value);
        status.Merge(of.status());
        ended |= value == "True" && (type == "Complete" || type == "Failed");
      }
    }
    fields.Merge(status.status());
  }
  RETURN_IF_ERROR(fields.status());
  const std::optional<Machine> machine = MachineOf(meta);
  if (ended || !machine) return absl::OkStatus();
  for (int64_t i = 0; i < std::min(completions, kMaxPods); ++i) {
    if (there.contains({meta.name, std::to_string(i)})) continue;
    found->unmade[found->machines.size()] = meta.name;
    found->machines.push_back(*machine);
    found->machines.back().index = static_cast<int>(i);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<KubernetesMachines> ParsePods(const std::string& text) {
  ASSIGN_OR_RETURN(const Json list, ParseJsonObject(text));
  Fields fields(list, "");
  fields.Require("items");
  const Json* items = fields.Objects("items");
  RETURN_IF_ERROR(fields.status());
  KubernetesMachines found;
  std::set<std::pair<std::string, std::string>> there;  // job and index
  const auto each = [&](const char* wanted, const auto& read) -> absl::Status {
    for (const Json& item : *items) {
      std::string kind;
      Fields(item).Read("kind", &kind);
      if (kind == wanted) RETURN_IF_ERROR(read(item));
    }
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(each("Pod", [&](const Json& item) { return ReadPod(item, &found, &there); }));
  RETURN_IF_ERROR(each("Job", [&](const Json& item) { return AddUnmade(item, &found, there); }));
  return found;
}

std::map<std::string, std::string> ParseRefusals(const std::string& text) {
  std::map<std::string, std::string> refusals;
  const auto list = ParseJsonObject(text);
  if (!list.ok()) return refusals;
  Fields fields(*list);
  const Json* items = fields.Objects("items");
  if (items == nullptr) return refusals;
  for (const Json& item : *items) {
    Fields event(item);
    std::string message, name, kind;
    event.Read("message", &message);
    if (const Json* object = event.Object("involvedObject")) {
      Fields of(*object);
      of.Read("kind", &kind);
      of.Read("name", &name);
    }
    constexpr std::string_view kCreating = "Error creating: ";
    if (message.starts_with(kCreating)) message = message.substr(kCreating.size());
    if (kind == "Job" && !message.empty()) refusals[name] = message;
  }
  return refusals;
}

}  // namespace muster::cluster
