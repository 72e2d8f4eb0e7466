// Signals: SIGINT, SIGTERM and SIGHUP as something to poll; SIGPIPE ignored. Owned by the thread
// that made it, before the process has others.
#pragma once

#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>

namespace muster::cluster {

// Restores what was there.
class Signals {
 public:
  Signals() {
    sigset_t set;
    sigemptyset(&set);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&set, signal);
    sigprocmask(SIG_BLOCK, &set, &old_mask_);
    fd_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    struct sigaction ignore {};
    ignore.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &ignore, &old_pipe_);
  }
  ~Signals() {
    close(fd_);
    sigaction(SIGPIPE, &old_pipe_, nullptr);
    sigprocmask(SIG_SETMASK, &old_mask_, nullptr);
  }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  int fd() const { return fd_; }
  // The next that has come; 0: none.
  int Take() {
    signalfd_siginfo info{};
    return read(fd_, &info, sizeof(info)) == sizeof(info) ? static_cast<int>(info.ssi_signo) : 0;
  }

 private:
  int fd_;
  sigset_t old_mask_{};
  struct sigaction old_pipe_ {};
};

}  // namespace muster::cluster
