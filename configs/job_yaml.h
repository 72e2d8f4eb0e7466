// Job files: YAML -> Job by walking the protobuf descriptor over the YAML tree, and back.
//
// The mapping is proto3 JSON's (lowerCamelCase names, enums by name, durations "7200s", 64-bit
// counts as number or string), with what job files in the wild do: any scalar where text is wanted
// (`runtimeVersion: 1.15`), TRUE/yes/on, null for "not given", a TrainingInput without the
// `trainingInput:` around it. Problems are collected, never thrown, and each has a place. Functions
// are pure but for ReadJobFile, which reads one file; a JobDraft is thread-compatible.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "configs/job.pb.h"
#include "configs/origin.h"

namespace muster {

// A job that is being put together: from a file first, then from flags.
struct JobDraft {
  Job job;
  Origins origins;    // where each value was given; a value without an entry is a default
  Problems problems;  // what is wrong so far
};

// Reads `text` into `draft`; `name` is the file's name in messages. Values that are wrong are left
// out and reported; the rest is read.
// False when nothing could be read: rules about what is missing would only be noise.
bool ReadJobYaml(std::string_view text, const std::string& name, JobDraft* draft);

// The same for the file at `path`; one that cannot be read is a problem too.
bool ReadJobFile(const std::string& path, JobDraft* draft);

// Sets the field at `path` ("trainingInput.workerCount") from a flag: over what the file said.
// `text` is read as the file's scalar would be. A path that does not exist is a problem with the
// nearest valid name.
void SetJobField(const std::string& path, const std::string& text, const Origin& origin,
                 JobDraft* draft);

// The same with `yaml` as the file would write the value: "[{steps: 10, learningRate: 0.1}]".
void SetJobFieldYaml(const std::string& path, const std::string& yaml, const Origin& origin,
                     JobDraft* draft);

// Replaces the list of texts at `path` ("trainingInput.args"); `origins` has one entry per item.
void SetJobList(const std::string& path, const std::vector<std::string>& items,
                const std::vector<Origin>& origins, JobDraft* draft);

// Every field that is set, and everything in `training` and `cluster`, in the order of job.proto.
// ReadJobYaml of it gives an equal job.
std::string WriteJobYaml(const Job& job);

}  // namespace muster
