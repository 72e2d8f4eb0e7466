// RunStandAlone: the program `ps` without a launcher and a master (docs/client.md).
//
//   ps --listen=HOST:PORT --config=FILE
//
// Holds what the first program that connects declares, until SIGTERM or SIGINT. FILE is a job file,
// of which `training` is used. Prints the address it listens on; logs to stderr. Blocks both
// signals in every thread. Called by main, before other threads start.
#pragma once

namespace muster::ps {

// True when the arguments ask for it: --listen is among them.
bool WantsStandAlone(int argc, char** argv);
// `token`: the value of MUSTER_JOB_TOKEN, which programs must know to connect. Returns the exit
// code: 0 after a signal, 1 when it cannot serve, 2 when arguments or FILE are wrong.
int RunStandAlone(int argc, char** argv, const char* token);

}  // namespace muster::ps
