// Trace parts: how the traces of a job's roles come together. Each role writes its own as it ends,
// <job-dir>/trace/<role>-<index>.json, which can be looked at alone; the master joins them to
// <job-dir>/trace.json when all roles have ended. A role that was killed leaves no part.
//
// Free functions, thread-safe.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "configs/job.pb.h"
#include "rpc/transport.h"
#include "telemetry/status.h"
#include "telemetry/trace.h"

namespace muster::master {

// The trace that `training` asks of the role `self`; null: none.
std::unique_ptr<Trace> MakeTrace(const Training& training, const rpc::Hello& self, int64_t pid,
                                 const std::string& host);

// Where the part of the role `self` lies.
std::string TracePartPath(const rpc::Hello& self, const std::string& folder);

// Writes what `trace` holds into `folder`, which is made if need be; nothing when it holds no
// event.
absl::Status WriteTracePart(const Trace& trace, const rpc::Hello& self, const std::string& folder);

// Removes what an earlier run, whose master was killed, left in `folder`.
void RemoveTraceParts(const std::string& folder);

// Joins the parts in `folder` to one trace at `file` and removes the folder; an earlier trace stays
// when there is no part. What is no trace is left out and told in `warnings`.
absl::Status JoinTraceParts(const std::string& folder, const std::string& file,
                            std::vector<std::string>* warnings);

}  // namespace muster::master
