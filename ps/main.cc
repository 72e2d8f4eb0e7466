// The program `ps`: a parameter server in a process of its own. Started by `launch`, or with
// --listen by hand (ps/stand_alone.h).
#include <cstdio>
#include <cstdlib>

#include "cluster/lifeline.h"
#include "master/role_main.h"
#include "ps/stand_alone.h"

int main(int argc, char** argv) {
  using muster::cluster::kLifelineVariable;
  const absl::Status lifeline = muster::cluster::StartLifeline(std::getenv(kLifelineVariable));
  if (!lifeline.ok()) {
    std::fprintf(stderr, "%s\n", lifeline.ToString().c_str());
    return 2;
  }
  if (muster::ps::WantsStandAlone(argc, argv)) {
    return muster::ps::RunStandAlone(argc, argv, std::getenv("MUSTER_JOB_TOKEN"));
  }
  return muster::master::RunRoleProgram(argc, argv, muster::master::RunServerRole);
}
