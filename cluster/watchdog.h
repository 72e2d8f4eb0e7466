// The watchdog of a rented machine: shell that turns it off when nobody of ours has been there for
// ten minutes, or twenty after it began, since the job's other machines may come later; or at once
// when its keeper says that nothing is left to do (kMachineEndsFile).
//
// A pure function: thread-safe.
#pragma once

#include <string>

namespace muster::cluster {

// In the home of the user that a keeper runs as. For those of rented machines alone.
inline constexpr char kMachineEndsFile[] = ".muster-ends";
// The same place: the machine is stopped after its job and belongs to the user from then on, so
// that nothing of ours turns it off when it is started again.
inline constexpr char kMachineStaysFile[] = ".muster-stays";

// The line of a script, run as root at each start, that ends the script on such a machine.
std::string UnlessItStays(const std::string& user);

// Lines of a machine's first script, run as root by sh; needs coreutils, grep and setsid alone.
// There is no comma in it. `user`: whom the launcher is on the machine; a plain name.
std::string WatchdogScript(const std::string& user);

}  // namespace muster::cluster
