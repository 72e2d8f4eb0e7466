// training.codec of the job file, and what it means for the parameters of a model.
//
// Pure functions: thread-safe.
#pragma once

#include <string>
#include <vector>

#include "configs/job.pb.h"
#include "ps/param.h"
#include "telemetry/status.h"

namespace muster::master {

// Gives each weight its codecs: those of the first of `spec.parameters` whose pattern matches its
// name ('*' any text, '?' any character), else `spec`'s own. Statistics travel as they are.
// InvalidArgument on an unknown codec, a fraction out of range, or a pattern that matches no
// parameter, with the valid names.
absl::Status SetCodecs(const CodecSpec& spec, std::vector<ps::ParamSpec>* params);

}  // namespace muster::master
