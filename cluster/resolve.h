// Resolve: a job as its file and flags give it -> the complete job that runs, or everything that is
// wrong with it.
//
// Pure but for the module's own check of its flags: thread-safe for different drafts.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cluster/build_facts.h"
#include "cluster/provider_fields.h"
#include "configs/catalog.h"
#include "configs/job_yaml.h"
#include "telemetry/status.h"
#include "worker/module.h"

namespace muster::cluster {

struct ResolveOptions {
  Catalog catalog = Catalog::BuiltIn();
  std::function<absl::StatusOr<const worker::ModuleType*>(const std::string&)> find_module =
      worker::FindModule;
  // Whether this machine has a GPU that the job could use; what is wrong, if not.
  std::function<absl::Status()> find_gpu = [] {
    return absl::FailedPreconditionError("no usable GPU: nobody looked for one");
  };
  // What this build's programs need of a machine; none: not known, and nothing is refused for it.
  std::optional<BuildFacts> build;
  std::chrono::system_clock::time_point now;  // names the job where nothing else does
};

struct ResolvedJob {
  // Complete: defaults filled in, module flags that mean a field of `training` moved there, args =
  // the module's other flags, all of them.
  Job job;
  std::vector<std::string> changed_args;  // those of args that differ from the module's defaults
  std::vector<Substitution> substitutions;
  std::vector<std::string> unknown;  // what is only seen on the machines, a line each
};

// Resolves and checks everything that can be checked before something starts. Empty when
// `draft->problems` is not.
std::optional<ResolvedJob> ResolveJob(const ResolveOptions& options, JobDraft* draft);

// The provider of a job file and its settings alone, for commands that run no job: whatever else
// the file says may be left out, but not be wrong. Empty when `draft->problems` is not.
std::optional<Cluster> ResolveCluster(JobDraft* draft);

}  // namespace muster::cluster
