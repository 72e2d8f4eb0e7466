// What the disks of stopped machines cost, by a table of list prices.
//
// Pure functions: thread-safe.
#pragma once

#include <cstdint>
#include <string>

#include "configs/job.pb.h"

namespace muster::cluster {

// "3 disks of 100 GB, about $24.00 a month (gp3 at $0.08 per GB, us-east-1)"; says so where the
// size is the image's own, and of a region ("" is not known yet) that the table does not have.
// PRECONDITION: RentsByType of the provider (cluster/rented_machine.h).
std::string DisksText(const Cluster& cluster, int64_t disks, const std::string& region);

}  // namespace muster::cluster
