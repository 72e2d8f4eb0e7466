// What becomes of each field of a job file on one machine: honoured, substituted (and shown in the
// plan) or refused. Free functions over one constant table: thread-safe.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "configs/job_yaml.h"

namespace muster::cluster {

enum class Treatment {
  kHonoured,     // done as the field says
  kSubstituted,  // something else is done; the plan shows what
  kRefused,      // the job does not start
};

struct LocalField {
  const char* path;  // "trainingInput.*Config.imageUri": the four roles' configurations
  Treatment treatment;
  const char* text;  // how it is honoured, what is done instead, or why it is refused
};

// Every field of trainingInput and what a provider must answer for outside it. A row of a message
// stands for all its fields.
std::span<const LocalField> LocalFields();

// The row that decides `path`, or null when no row does.
const LocalField* FindLocalField(const std::string& path);

// What is done instead of what a field asks for.
struct Substitution {
  std::string path;   // "trainingInput.masterType"
  std::string where;  // "job.yaml:3:15", "--region"
  std::string text;
};

// Substitutions of the fields that the job sets; those that are refused become problems.
std::vector<Substitution> CheckLocalFields(JobDraft* draft);

// The table in Markdown, as docs/job-file.md shows it.
std::string LocalFieldsMarkdown();

}  // namespace muster::cluster
