// The program `ps`: a parameter server in a process of its own. Started by `launch`.
#include "cluster/lifeline.h"
#include "master/role_main.h"

int main(int argc, char** argv) {
  muster::cluster::StartLifeline();
  return muster::master::RunRoleProgram(argc, argv, muster::master::RunServerRole);
}
