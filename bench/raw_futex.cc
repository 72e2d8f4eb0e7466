#include "bench/raw_futex.h"

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>

#include "telemetry/check.h"

namespace muster::bench {
namespace {

void WaitWhile(const std::atomic<uint32_t>& word, uint32_t value) {
  while (word.load() == value) {
    syscall(SYS_futex, &word, FUTEX_WAIT, value, nullptr, nullptr, 0);
  }
}

void Bump(std::atomic<uint32_t>& word) {
  word.fetch_add(1);
  syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

int MakeMemory() {
  const int fd = memfd_create("futex", 0);
  CHECK(fd >= 0 && ftruncate(fd, 4096) == 0);
  return fd;
}

}  // namespace

FutexPair::FutexPair() : FutexPair(MakeMemory()) {}

FutexPair::FutexPair(int fd) : fd_(fd) {
  void* memory = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK(memory != MAP_FAILED);
  words_ = static_cast<Words*>(memory);
}

FutexPair::~FutexPair() {
  munmap(words_, 4096);
  close(fd_);
}

void FutexPair::RoundTrip() {
  const uint32_t before = words_->answered.load();
  Bump(words_->asked);
  WaitWhile(words_->answered, before);
}

void FutexPair::Serve() {
  for (uint32_t done = 0;; ++done) {
    WaitWhile(words_->asked, done);
    Bump(words_->answered);
  }
}

OnCore::OnCore(bool first) {
  CHECK_EQ(sched_getaffinity(0, sizeof(before_), &before_), 0);
  cpu_set_t one;
  CPU_ZERO(&one);
  for (size_t i = 0; i < CPU_SETSIZE; ++i) {
    if (!CPU_ISSET(i, &before_)) continue;
    if (!first) CPU_ZERO(&one);
    CPU_SET(i, &one);
    if (first) break;
  }
  sched_setaffinity(0, sizeof(one), &one);
}

OnCore::~OnCore() { sched_setaffinity(0, sizeof(before_), &before_); }

}  // namespace muster::bench
