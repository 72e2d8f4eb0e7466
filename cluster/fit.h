// Whether this build, the images and the GPUs that a job asks for go together: found out before
// anything is rented.
//
// Pure functions: thread-safe.
#pragma once

#include <string>
#include <vector>

#include "cluster/build_facts.h"
#include "configs/catalog.h"
#include "configs/job.pb.h"

namespace muster::cluster {

struct Misfit {
  std::string path;         // of the field that it is about
  std::string what, write;  // as configs/origin.h has them
};

struct Fit {
  std::vector<Misfit> misfits;
  std::vector<std::string> unknown;  // what is only seen on the machines, a line each
};

// Nothing for providers whose machines are there already (LOCAL, SSH).
// PRECONDITION: FindRented finds a machine for each role, where the provider rents by type.
Fit CheckFit(const Job& job, const BuildFacts& build, const Catalog& catalog);

}  // namespace muster::cluster
