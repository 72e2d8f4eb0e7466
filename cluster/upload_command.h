// `launch upload JOB`: sends the directory of a job that belongs to an object store there, when
// that failed at the job's end.
#pragma once

#include <string>

#include "cluster/command.h"
#include "cluster/mirror.h"

namespace muster::cluster {

// `registry`: the folder of cluster/job_registry.h. Returns 0 when all is there, 1 when it could
// not be sent, 2 for a job that has no such directory. With --while-open=FD it is the process that
// sends while a launcher runs the job (SendWhileOpen).
int RunUploadCommand(const CommandContext& context, const std::string& registry,
                     MirrorOptions options);

}  // namespace muster::cluster
