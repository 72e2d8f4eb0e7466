#include "bench/child_process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>

#include "telemetry/check.h"

namespace muster::bench {

ChildProcess::ChildProcess(std::vector<std::string> words) {
  int out[2], in[2];
  CHECK_EQ(pipe2(out, O_CLOEXEC), 0);
  CHECK_EQ(pipe2(in, O_CLOEXEC), 0);
  words.insert(words.begin(), program_invocation_short_name);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
  CHECK_EQ(posix_spawn(&pid_, "/proc/self/exe", &actions, nullptr, argv.data(), environ), 0);
  posix_spawn_file_actions_destroy(&actions);
  close(out[1]);
  close(in[0]);
  from_ = fdopen(out[0], "r");
  to_ = fdopen(in[1], "w");
}

ChildProcess::~ChildProcess() {
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  std::fclose(from_);
  std::fclose(to_);
}

const std::string& ChildProcess::said() {
  if (said_.empty()) said_ = Hear();
  CHECK(!said_.empty());
  return said_;
}

std::string ChildProcess::Hear() {
  std::string line;
  for (int c = 0; (c = std::fgetc(from_)) != EOF && c != '\n';) line += static_cast<char>(c);
  return line;
}

void ChildProcess::Say(const std::string& line) {
  std::fprintf(to_, "%s\n", line.c_str());
  std::fflush(to_);
}

}  // namespace muster::bench
