// ParamSpecs as protobuf messages, both ways.
//
// Pure functions: thread-safe.
#pragma once

#include <vector>

#include "ps/declaration.pb.h"
#include "ps/param.h"
#include "telemetry/status.h"

namespace muster::ps {

void ToMessage(const std::vector<ParamSpec>& specs,
               google::protobuf::RepeatedPtrField<ParamSpecMessage>* out);
// The table of these parameters. Fails where ParamTable::Make does, and on a kind of parameter, of
// first values, or a codec that does not exist.
absl::StatusOr<ParamTable> FromMessage(
    const google::protobuf::RepeatedPtrField<ParamSpecMessage>& messages);

}  // namespace muster::ps
