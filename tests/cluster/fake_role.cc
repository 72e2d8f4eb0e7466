// A stand-in for the programs master, worker and ps: keeps their side of the launcher's contract
// and misbehaves on request.
//
// Without --role it is the master. The master makes a FIFO in the job directory and gives its path
// as its address; the others write "ROLE INDEX PID" to it and then wait for the end of theirs,
// <job-dir>/fifo-ROLE-INDEX. What a role does besides is told by the environment variable
// FAKE_<ROLE>_<INDEX> (FAKE_MASTER_0=fail …); FAKE_ROLES is the number of roles besides the master.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "cluster/lifeline.h"
#include "master/status_line.h"

namespace muster::cluster {
namespace {

using master::RunState;

volatile std::sig_atomic_t interrupted = 0;

struct Flags {
  std::string master, role = "master", job_dir;
  int index = 0;
};

Flags ParseFlags(int argc, char** argv) {
  Flags flags;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    const size_t equals = std::min(arg.find('='), arg.size() - 1);
    const std::string name = arg.substr(0, equals), value = arg.substr(equals + 1);
    if (name == "--master") flags.master = value;
    if (name == "--role") flags.role = value;
    if (name == "--index") flags.index = std::stoi(value);
    if (name == "--job-dir") flags.job_dir = value;
  }
  return flags;
}

std::string Behaviour(const Flags& flags) {
  std::string name = fmt::format("FAKE_{}_{}", flags.role, flags.index);
  std::transform(name.begin(), name.end(), name.begin(), ::toupper);
  const char* value = std::getenv(name.c_str());
  return value == nullptr ? "" : value;
}

void Say(const master::StatusLine& line) {
  const std::string text = master::EncodeStatusLine(line) + "\n";
  if (write(master::kStatusFd, text.data(), text.size()) < 0) std::exit(9);
}

std::string RoleFifo(const Flags& flags, const std::string& role, int index) {
  return fmt::format("{}/fifo-{}-{}", flags.job_dir, role, index);
}

[[noreturn]] void Sleep() {
  for (;;) pause();
}

struct Peer {
  std::string role;
  int index = 0;
  int64_t pid = 0;
};

class Master {
 public:
  explicit Master(Flags flags) : flags_(std::move(flags)), behaviour_(Behaviour(flags_)) {}

  int Run() {
    const std::string fifo = flags_.job_dir + "/fifo";
    std::filesystem::remove(fifo);
    if (mkfifo(fifo.c_str(), 0600) != 0) return 8;
    std::fstream in(fifo);  // reading and writing: never at its end
    if (behaviour_ == "never-listen") Sleep();
    Say(master::ListeningLine{fifo});
    Gather(in);
    if (behaviour_ == "crash") abort();
    Say(master::StateLine{RunState::kRunning, "training"});
    for (int64_t step = 10; step <= 100; step += 10) {
      Say(master::ProgressLine{.step = step,
                               .total_steps = 100,
                               .loss = 1.0 / static_cast<double>(step),
                               .samples_per_second = 1234});
    }
    return End();
  }

 private:
  void Gather(std::istream& in) {
    const int roles = std::atoi(std::getenv("FAKE_ROLES"));
    for (int i = 0; i < roles; ++i) {
      Peer peer;
      in >> peer.role >> peer.index >> peer.pid;
      Say(master::ReplicaLine{
          .role = peer.role, .index = peer.index, .state = "READY", .pid = peer.pid});
      peers_.push_back(peer);
    }
  }

  int End() {
    if (behaviour_ == "train-for-ever" || behaviour_ == "never-drain") {
      while (!interrupted || behaviour_ == "never-drain") pause();
      Say(master::StateLine{RunState::kCancelling, "saving a checkpoint"});
      Say(master::StateLine{RunState::kCancelled, ""});
      Dismiss();
      return 0;
    }
    if (behaviour_ == "fail") {
      Say(master::StateLine{RunState::kFailed, "step 20: replica 1 pushed a NaN"});
      Dismiss();
      return 1;
    }
    Say(master::ResultLine{.step = 100,
                           .validation_accuracy = 0.971,
                           .test_accuracy = 0.965,
                           .confusion = "(confusion)",
                           .model_path = "/m/model.onnx"});
    Say(master::StateLine{RunState::kSucceeded, ""});
    if (behaviour_ != "forget-others") Dismiss();
    return 0;
  }

  void Dismiss() {
    for (const Peer& peer : peers_) {
      const int fd = open(RoleFifo(flags_, peer.role, peer.index).c_str(), O_WRONLY);
      if (fd >= 0) close(fd);
    }
  }

  const Flags flags_;
  const std::string behaviour_;
  std::vector<Peer> peers_;
};

int RunOther(const Flags& flags) {
  const std::string behaviour = Behaviour(flags);
  std::fprintf(stderr, "device /cpu:0: %s thread\n", std::getenv("OMP_NUM_THREADS"));
  std::fprintf(stderr, "TF_CONFIG %s\n", std::getenv("TF_CONFIG"));
  if (behaviour == "exit-early") {
    std::fprintf(stderr, "the data directory D is empty\n");
    return 3;
  }
  if (behaviour == "never-register") Sleep();
  // As if it had been started through another program.
  if (behaviour == "lose-parent-death-signal") prctl(PR_SET_PDEATHSIG, 0);
  const std::string fifo = RoleFifo(flags, flags.role, flags.index);
  std::filesystem::remove(fifo);
  if (mkfifo(fifo.c_str(), 0600) != 0) return 8;
  std::ofstream(flags.master) << flags.role << " " << flags.index << " " << getpid() << "\n";
  if (behaviour == "killed") {
    std::fprintf(stderr, "last words\n");
    raise(SIGKILL);
  }
  if (behaviour == "ignore-signals") {
    std::signal(SIGTERM, SIG_IGN);
    std::signal(SIGINT, SIG_IGN);
    Sleep();
  }
  const int fd = open(fifo.c_str(), O_RDONLY);  // until the master opens it
  return fd >= 0 ? 0 : 8;
}

int Main(int argc, char** argv) {
  const Flags flags = ParseFlags(argc, argv);
  const absl::Status lifeline = StartLifeline(std::getenv(kLifelineVariable));
  if (!lifeline.ok()) std::fprintf(stderr, "%s\n", std::string(lifeline.message()).c_str());
  if (!lifeline.ok() || std::getenv("MUSTER_JOB_TOKEN") == nullptr) return 7;
  if (flags.role != "master") return RunOther(flags);
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = 1; };
  sigaction(SIGINT, &action, nullptr);
  return Master(flags).Run();
}

}  // namespace
}  // namespace muster::cluster

int main(int argc, char** argv) { return muster::cluster::Main(argc, argv); }
