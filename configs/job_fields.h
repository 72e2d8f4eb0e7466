// Fields of the job file by the names that YAML uses: a thin layer over the protobuf descriptors of
// job.proto. Pure functions: thread-safe.
#pragma once

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <string>
#include <vector>

#include "configs/scalar.h"

namespace muster {

// The field named `name` (lowerCamelCase) or null. The result lives as long as the program.
const google::protobuf::FieldDescriptor* FindJobField(const google::protobuf::Descriptor& message,
                                                      const std::string& name);
// Names in the order of job.proto.
std::vector<std::string> JobFieldNames(const google::protobuf::Descriptor& message);

// The path of the message that has a field called `name`, the nearest to the top: "trainingInput"
// for "workerCount". "" when it is a field of Job itself or of no message.
std::string HomeOfJobField(const std::string& name);

bool IsDuration(const google::protobuf::FieldDescriptor& field);

// "an integer", "text", "one of BASIC, …".
std::string WhatFieldWants(const google::protobuf::FieldDescriptor& field);

// Valid names of an enum, the UNSPECIFIED one left out.
std::vector<std::string> EnumNames(const google::protobuf::EnumDescriptor& type);

// Sets (or, for a repeated field, adds) the value that `text` stands for. False, with `*wrong`
// filled, when it stands for none. REQUIRES: the field is a scalar, an enum or a Duration.
bool StoreJobScalar(const std::string& text, const google::protobuf::FieldDescriptor* field,
                    google::protobuf::Message* message, Wrong* wrong);

// True when the user (or a default) gave the field at `path` a value that is not empty, zero or
// false.
bool IsSet(const google::protobuf::Message& job, const std::string& path);

// Paths of every field below `message` that is not itself a message with fields, in the order of
// job.proto: "trainingInput.scaleTier", …, "trainingInput.hyperparameters.params.type". Repeated
// messages count as one.
std::vector<std::string> LeafPaths(const google::protobuf::Descriptor& message,
                                   const std::string& prefix);

}  // namespace muster
