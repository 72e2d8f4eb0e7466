// A bare futex round trip between two processes: what a request and its answer through shared
// memory cost at least, when both ends sleep. Each end keeps to a core of its own, as far as there
// are two: a server and a worker compute at the same time.
#pragma once

#include <sched.h>

#include <atomic>
#include <cstdint>

namespace muster::bench {

// Two words in memory that another process maps, too: what the client wrote, what the server did.
class FutexPair {
 public:
  // A new one, with a descriptor that children inherit; or, with its number, another process's.
  FutexPair();
  explicit FutexPair(int fd);
  ~FutexPair();
  FutexPair(const FutexPair&) = delete;
  FutexPair& operator=(const FutexPair&) = delete;

  int fd() const { return fd_; }
  // Asks, and sleeps until the answer is there.
  void RoundTrip();
  // Answers for ever.
  [[noreturn]] void Serve();

 private:
  struct Words {
    alignas(64) std::atomic<uint32_t> asked;
    alignas(64) std::atomic<uint32_t> answered;
  };
  const int fd_;
  Words* words_;
};

// While it lives, the calling thread runs on the first core, or the last, that it may use.
class OnCore {
 public:
  explicit OnCore(bool first);
  ~OnCore();
  OnCore(const OnCore&) = delete;
  OnCore& operator=(const OnCore&) = delete;

 private:
  cpu_set_t before_{};
};

}  // namespace muster::bench
