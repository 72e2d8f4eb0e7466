// The program `worker`: a trainer in a process of its own, for a worker or for the chief. Started
// by `launch`.
#include <cstdio>
#include <cstdlib>

#include "cluster/lifeline.h"
#include "master/role_main.h"

int main(int argc, char** argv) {
  using muster::cluster::kLifelineVariable;
  const absl::Status lifeline = muster::cluster::StartLifeline(std::getenv(kLifelineVariable));
  if (!lifeline.ok()) {
    std::fprintf(stderr, "%s\n", lifeline.ToString().c_str());
    return 2;
  }
  return muster::master::RunRoleProgram(argc, argv, muster::master::RunTrainerRole);
}
