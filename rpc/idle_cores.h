// IdleCores: whether a thread may spin for a while without taking a core from a thread that has
// work to do.
//
// Thread-compatible. Owns a descriptor of /proc/loadavg.
#pragma once

#include <chrono>
#include <string_view>

namespace muster::rpc {

class IdleCores {
 public:
  IdleCores();
  ~IdleCores();
  IdleCores(const IdleCores&) = delete;
  IdleCores& operator=(const IdleCores&) = delete;

  // True when no more threads of this machine were runnable, the caller included, than this process
  // may use cores; looked up at most every 10 ms. False where the system does not tell.
  bool Any(std::chrono::steady_clock::time_point now);

 private:
  const int fd_;
  const int cores_;
  bool any_ = false;
  std::chrono::steady_clock::time_point next_look_;
};

// The threads that are runnable according to the text of /proc/loadavg; -1: it does not say.
int RunnableThreads(std::string_view loadavg);

}  // namespace muster::rpc
