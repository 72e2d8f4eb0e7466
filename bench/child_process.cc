#include "bench/child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>

#include "telemetry/check.h"

namespace muster::bench {

ChildProcess::ChildProcess(std::vector<std::string> words) {
  int out[2];
  CHECK_EQ(pipe2(out, O_CLOEXEC), 0);
  words.insert(words.begin(), "bench_pushpull");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
  CHECK_EQ(posix_spawn(&pid_, "/proc/self/exe", &actions, nullptr, argv.data(), environ), 0);
  posix_spawn_file_actions_destroy(&actions);
  close(out[1]);
  char word[64] = {};
  std::FILE* said = fdopen(out[0], "r");
  CHECK_EQ(std::fscanf(said, "%63s", word), 1);
  std::fclose(said);
  said_ = word;
}

ChildProcess::~ChildProcess() {
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

}  // namespace muster::bench
