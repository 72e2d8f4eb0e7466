// The flags of `launch` that set fields of a job, one row each: its name, the field it sets and how
// its text is read.
//
// Constant data and free functions: thread-safe. Adding a flag means one row in flag_table.cc.
#pragma once

#include <span>
#include <string>

namespace muster::cluster {

// How the text of a flag is read.
enum class Form {
  kText,         // the field's value as the file would write it
  kSwitch,       // true when nothing follows
  kTier,         // basic, standard-1 … as gcloud writes them, or the file's names
  kLabels,       // a=b,c=d
  kAccelerator,  // count=1,type=nvidia-tesla-k80
  kPackages,     // a comma-separated list that is added to packageUris
  kKmsKey,       // a full name, or the last part of one with the other --kms flags
  kKmsPart,
  kAssignment,  // PATH=YAML
  kFollow,      // what launch does anyway
};

struct FlagRow {
  const char* name;
  const char* path;  // field it sets; "" for none
  Form form;
  const char* value;  // what stands for the value in the help
  const char* help;
};

// In the order of the help.
std::span<const FlagRow> FlagTable();
// The row of flag `name` ("--worker-count"), or null.
const FlagRow* FindRow(const std::string& name);
// False for flags that may stand without a value.
bool TakesValue(Form form);

}  // namespace muster::cluster
