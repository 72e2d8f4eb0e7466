// The program `worker`: a trainer in a process of its own, for a worker or for the chief. Started by `launch`.
#include "cluster/lifeline.h"
#include "master/role_main.h"

int main(int argc, char** argv) {
  muster::cluster::StartLifeline();
  return muster::master::RunRoleProgram(argc, argv, muster::master::RunTrainerRole);
}
