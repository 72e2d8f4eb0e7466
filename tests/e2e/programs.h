// The real programs, run as a user runs them: the launcher in a process of its own, what it prints,
// and what it leaves in /proc.
//
// All of it is owned by the test's thread. Programs are found in $MUSTER_BIN.
#pragma once

#include <sys/types.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "master/job_state.h"
#include "telemetry/status.h"

namespace muster::e2e {

// What a program that ended left behind.
struct Ended {
  int code = 0;  // -signal when it was killed
  std::string out, err;
};

// A program that runs. Killed, if it still runs, and reaped by the destructor.
class Running {
 public:
  // `words`: the program's name and its arguments. `unprivileged`: as the user nobody. `added`: to
  // this process's environment.
  explicit Running(const std::vector<std::string>& words, bool unprivileged = false,
                   const std::map<std::string, std::string>& added = {});
  ~Running();
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  // Reads its output up to a line that holds `text`; false when it ends first. One that says other
  // things for minutes fails the test and is killed.
  bool WaitFor(const std::string& text);
  void Signal(int signal) const;
  // Reads the rest of its output and waits for its end.
  Ended Wait();
  pid_t pid() const { return pid_; }
  const std::string& out() const { return out_; }

 private:
  // More of its output; false at its end, or when it says nothing for a minute (the test then
  // fails, and the program is killed).
  bool Read();

  pid_t pid_ = -1;
  int pipe_ = -1;
  std::string out_, err_path_;
  size_t seen_ = 0;  // of out_: what WaitFor has looked at
};

Ended RunToEnd(const std::vector<std::string>& words);

// Processes of the programs master, worker and ps whose job directory is `job_dir`, by their role
// ("worker-1"; the coordinator is "master-0").
std::map<std::string, pid_t> RolesOf(const std::string& job_dir);
// Inodes of the sockets that these processes hold: TCP (listening or connected) and Unix.
std::set<std::string> SocketsOf(const std::map<std::string, pid_t>& roles);
// Those of `inodes` that the kernel still knows.
std::set<std::string> SocketsLeft(const std::set<std::string>& inodes);
// Waits until all of these processes have ended; false when one has not within 20 s.
bool AwaitEnd(const std::map<std::string, pid_t>& roles);

// One set of clips for all tests of a binary, made once by make_speech_data.
const std::string& SpeechData();
// A new folder under the test's temporary one; removed when the binary ends.
std::string NewFolder(const std::string& name);

// state.json; fails the test when it does not read.
master::JobState StateOf(const std::string& job_dir);
std::string Contents(const std::string& path);
void WriteText(const std::string& path, const std::string& text);

// A job file of `workers` workers and `servers` servers (none of both: BASIC), tiny_conv on
// SpeechData(), one thread per trainer.
struct TinyJob {
  int workers = 0, servers = 0;
  int steps = 60, batch = 10;
  int evaluate_every = 20, save_every = 20;
  std::string data;  // "": SpeechData()
  std::string model = "tiny_conv";
  std::string training;  // more fields of `training`, in flow style: "device: GPU"
  bool shared_memory = true;
  std::string cluster;  // more fields of `cluster`
  int priority = 0;     // of trainingInput.scheduling
};
// Writes the job file into `folder` and gives the words that launch it there: job directory
// `folder`/job.
std::vector<std::string> LaunchWords(const std::string& folder, const TinyJob& job);

// What no user may see: a status code, a stack trace, a source file of ours.
void ExpectForHumans(const Ended& ended);

}  // namespace muster::e2e
