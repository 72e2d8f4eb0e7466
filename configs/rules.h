// Rules of the job file: what the types of job.proto cannot say. Pure functions: thread-safe.
//
// trainingInput's rules are those of the service whose files these are (all 27 fields); `training`
// and `cluster` are Muster's. A rule adds every violation to `draft->problems` at the place of the
// value, or of what should have held it. Whether a provider can do what a field asks is not decided
// here (cluster/provider_fields.h).
#pragma once

#include "configs/catalog.h"
#include "configs/job_yaml.h"

namespace muster {

// All rules. REQUIRES: nothing; an incomplete job is reported, not assumed away.
void CheckJob(const Catalog& catalog, JobDraft* draft);

// The parts, each in its own file.
void CheckTrainingInput(JobDraft* draft);                     // rules_training_input.cc
void CheckReplicas(const Catalog& catalog, JobDraft* draft);  // rules_replicas.cc
void CheckHyperparameters(JobDraft* draft);                   // rules_hyperparameters.cc
void CheckTraining(JobDraft* draft);                          // rules_training.cc
void CheckCluster(JobDraft* draft);                           // rules_cluster.cc
void CheckKubernetes(JobDraft* draft);                        // rules_kubernetes.cc

}  // namespace muster
