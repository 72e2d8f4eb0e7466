// ParamSpecs as control messages, both ways.
#pragma once

#include <vector>

#include "master/control.pb.h"
#include "ps/param.h"

namespace muster::master {

void ToMessage(const std::vector<ps::ParamSpec>& specs,
               google::protobuf::RepeatedPtrField<ParamSpecMessage>* out);
std::vector<ps::ParamSpec> FromMessage(
    const google::protobuf::RepeatedPtrField<ParamSpecMessage>& messages);

}  // namespace muster::master
