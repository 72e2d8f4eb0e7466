// What the roles of a job share that runs in one process: the trainer's device, in whose memory the
// parameters live where that is possible (ps/residence.h).
//
// Free functions, thread-safe.
#pragma once

#include <string>

#include "configs/job.pb.h"
#include "master/roles.h"
#include "master/trainer_device.h"

namespace muster::master {

// Why the parameters of a job with one replica stay with a server on the host; "": they can live on
// the trainer's device.
std::string WhyOnHost(const Training& training, const TrainerDevice& device);

// Makes the trainer's device now, and has the roles that get `options` share it; what is wrong with
// it is the trainer's to say.
void ShareDevice(const Training& training, RoleOptions& options);

}  // namespace muster::master
