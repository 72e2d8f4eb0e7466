// What becomes of each field of a job file with each provider: honoured, substituted (and shown in
// the plan) or refused. Free functions over one constant table: thread-safe.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "configs/job.pb.h"
#include "configs/job_yaml.h"

namespace muster::cluster {

enum class Treatment {
  kHonoured,     // done as the field says
  kSubstituted,  // something else is done; the plan shows what
  kRefused,      // the job does not start
};

struct FieldTreatment {
  Treatment treatment = Treatment::kRefused;
  const char* text = "";  // how it is honoured, what is done instead, or why it is refused
};

// What a provider does with one field. A row of a message stands for all its fields.
struct FieldTreatmentOf {
  const char* path = "";  // "trainingInput.*Config.imageUri": the four roles' configurations
  FieldTreatment treatment = {};
};

// LOCAL's: every field of trainingInput and what a provider must answer for outside it.
std::span<const FieldTreatmentOf> ProviderFields();

// Where the others differ (cluster/fields_*.cc).
std::span<const FieldTreatmentOf> AwsFields();
std::span<const FieldTreatmentOf> GcpFields();
std::span<const FieldTreatmentOf> SshFields();
std::span<const FieldTreatmentOf> SlurmFields();
std::span<const FieldTreatmentOf> KubernetesFields();

// The row of ProviderFields that decides `path`, or null when no row does.
const FieldTreatmentOf* FindProviderField(const std::string& path);

// What `provider` does with a field of ProviderFields.
const FieldTreatment& TreatmentOf(const FieldTreatmentOf& field, Cluster::Provider provider);

// What is done instead of what a field asks for.
struct Substitution {
  std::string path;   // "trainingInput.masterType"
  std::string where;  // "job.yaml:3:15", "--region"
  std::string text;
};

// Substitutions of the fields that the job sets, with its provider; those that are refused become
// problems.
std::vector<Substitution> CheckProviderFields(JobDraft* draft);

// The table in Markdown, as docs/job-file.md shows it.
std::string ProviderFieldsMarkdown();

}  // namespace muster::cluster
