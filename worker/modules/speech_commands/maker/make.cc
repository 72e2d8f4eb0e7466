#include "worker/modules/speech_commands/maker/make.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <map>
#include <set>
#include <span>
#include <system_error>
#include <utility>
#include <vector>

#include "telemetry/file.h"
#include "worker/modules/speech_commands/corpus.h"
#include "worker/modules/speech_commands/maker/sound.h"
#include "worker/modules/speech_commands/split.h"
#include "worker/modules/speech_commands/wav.h"

namespace muster::worker {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kBlock = 50;         // clips of one process; part of what a clip is a function of
constexpr int64_t kBabbleWords = 100;  // clips that make the babble
constexpr char kBabble[] = "babble";

// One child's work: a block of clips, or a noise file.
struct Task {
  std::span<const ClipPlan> clips;
  std::string noise;
};

std::string NoisePath(const MakeSettings& settings, const std::string& name) {
  return fmt::format("{}/{}/{}.wav", settings.out, kNoiseFolder, name);
}

absl::Status MakeClips(Engine& engine, const MakeSettings& settings,
                       std::span<const ClipPlan> clips) {
  for (const ClipPlan& plan : clips) {
    // Spoken even when the file is there: the engine's state after it is part of the next one.
    ASSIGN_OR_RETURN(const std::vector<float> word, engine.Speak(plan));
    const std::string path = settings.out + "/" + plan.file;
    if (fs::exists(path)) continue;
    RETURN_IF_ERROR(WriteWav(path, kMadeRate, MakeClip(plan, settings.plan.seed, word)));
  }
  return absl::OkStatus();
}

// Talkers are voices of the training split where there are any, so that no other split's voice is
// heard in training, not even in the noise.
absl::StatusOr<std::vector<float>> Babble(Engine& engine, const MakeSettings& settings,
                                          int64_t samples) {
  std::vector<Voice> talkers;
  for (const Voice& voice : engine.voices()) {
    if (WhichSplit(voice.speaker, 10, 10) == Split::kTraining) talkers.push_back(voice);
  }
  if (talkers.empty()) talkers = engine.voices();
  PlanSettings plan = settings.plan;
  plan.seed = DeriveKey(plan.seed, HashName("speech/babble")).k0;
  std::vector<std::vector<int16_t>> words;
  for (const ClipPlan& clip : PlanClips(plan, talkers, kBabbleWords)) {
    ASSIGN_OR_RETURN(const std::vector<float> word, engine.Speak(clip));
    words.push_back(MakeClip(clip, plan.seed, word));
  }
  return MakeBabble(words, plan.seed, samples);
}

absl::Status MakeNoiseFile(Engine& engine, const MakeSettings& settings, const std::string& name) {
  const int64_t samples = int64_t{settings.noise_seconds} * kMadeRate;
  std::vector<float> noise;
  if (name == kBabble) {
    ASSIGN_OR_RETURN(noise, Babble(engine, settings, samples));
  } else {
    noise = MakeNoise(name, settings.plan.seed, samples);
  }
  return WriteWav(NoisePath(settings, name), kMadeRate, FinishNoise(noise));
}

// The child's life: its exit status says whether it went well, stderr why not.
[[noreturn]] void RunTask(Engine& engine, const MakeSettings& settings, const Task& task,
                          pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);
  const absl::Status status = task.noise.empty() ? MakeClips(engine, settings, task.clips)
                                                 : MakeNoiseFile(engine, settings, task.noise);
  if (!status.ok()) {
    fmt::print(stderr, "make_speech_data: {}\n", std::string(status.message()));
  }
  _exit(status.ok() ? 0 : 1);
}

// Runs the tasks in up to `processes` children at a time.
class Children {
 public:
  Children(Engine& engine, const MakeSettings& settings) : engine_(engine), settings_(settings) {}
  ~Children() {
    for (const auto& [pid, task] : running_) {
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
  }

  absl::Status Start(const Task& task) {
    const pid_t parent = getpid();
    const pid_t pid = fork();
    if (pid < 0) {
      return absl::ErrnoToStatus(errno, "cannot start a process");
    }
    if (pid == 0) {
      RunTask(engine_, settings_, task, parent);
    }
    running_[pid] = &task;
    return absl::OkStatus();
  }

  // The task of a child that has ended well; fails when one did not.
  absl::StatusOr<const Task*> Wait() {
    int state = 0;
    pid_t pid;
    do {
      pid = waitpid(-1, &state, 0);
    } while (pid < 0 && errno == EINTR);
    const auto found = running_.find(pid);
    if (found == running_.end()) {
      return absl::InternalError("a process was lost");
    }
    const Task* task = found->second;
    running_.erase(found);
    if (!WIFEXITED(state) || WEXITSTATUS(state) != 0) {
      return absl::InternalError(
          WIFSIGNALED(state) ? fmt::format("a process was killed by signal {}", WTERMSIG(state))
                             : "stopped; the same command goes on from here");
    }
    return task;
  }

  int running() const { return static_cast<int>(running_.size()); }

 private:
  Engine& engine_;
  const MakeSettings& settings_;
  std::map<pid_t, const Task*> running_;
};

absl::Status MakeFolder(const std::string& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  return error ? ErrnoStatus(error.value(), fmt::format("cannot make the folder {}", folder))
               : absl::OkStatus();
}

bool HoldsFolders(const std::string& dir) {
  std::error_code error;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    if (it->is_directory(error)) return true;
  }
  return false;
}

// What a set is a function of stands beside it, so that no set is a mixture.
absl::Status CheckRecord(const Engine& engine, const MakeSettings& settings) {
  const std::string path = settings.out + "/made_by.txt";
  const std::string record = fmt::format(
      "make_speech_data 1\nengine {}\nseed {}\nwords {}\nunknown {}\nnoise_seconds {}\n",
      engine.name(), settings.plan.seed, fmt::join(settings.plan.words, ","),
      fmt::join(settings.plan.unknown, ","), settings.noise_seconds);
  RETURN_IF_ERROR(MakeFolder(settings.out));
  const absl::StatusOr<std::string> found = ReadFile(path);
  if (absl::IsNotFound(found.status())) {
    if (HoldsFolders(settings.out)) {
      return absl::FailedPreconditionError(
          fmt::format("{}: holds folders that make_speech_data did not make; write another --out",
                      settings.out));
    }
    return WriteFileAtomically(path, record);
  }
  RETURN_IF_ERROR(found.status());
  if (*found != record) {
    return absl::FailedPreconditionError(fmt::format(
        "{}: the set there was made with other settings; write another --out, or remove it. It was "
        "made by:\n{}",
        settings.out, *found));
  }
  return absl::OkStatus();
}

absl::Status MakeFolders(const MakeSettings& settings, std::span<const ClipPlan> plans) {
  std::set<std::string> folders = {settings.out + "/" + kNoiseFolder};
  for (const ClipPlan& plan : plans) folders.insert(settings.out + "/" + plan.word);
  for (const std::string& folder : folders) {
    RETURN_IF_ERROR(MakeFolder(folder));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Make(Engine& engine, const MakeSettings& settings, const MakeProgress& progress) {
  const std::vector<ClipPlan> plans = PlanClips(settings.plan, engine.voices(), settings.clips);
  RETURN_IF_ERROR(CheckRecord(engine, settings));
  RETURN_IF_ERROR(MakeFolders(settings, plans));
  std::vector<Task> tasks;
  std::vector<std::string> noises = NoiseNames();
  noises.insert(noises.begin(), kBabble);
  for (const std::string& name : noises) {
    if (!fs::exists(NoisePath(settings, name))) tasks.push_back({{}, name});
  }
  int64_t done = 0;
  for (int64_t begin = 0; begin < settings.clips; begin += kBlock) {
    const auto block = std::span(plans).subspan(begin, std::min(kBlock, settings.clips - begin));
    const bool made = std::all_of(block.begin(), block.end(), [&](const ClipPlan& plan) {
      return fs::exists(settings.out + "/" + plan.file);
    });
    if (made) {
      done += static_cast<int64_t>(block.size());
    } else {
      tasks.push_back({block, ""});
    }
  }
  Children children(engine, settings);
  progress(done, settings.clips);
  for (size_t next = 0; next < tasks.size() || children.running() > 0;) {
    if (next < tasks.size() && children.running() < settings.processes) {
      RETURN_IF_ERROR(children.Start(tasks[next++]));
    } else {
      ASSIGN_OR_RETURN(const Task* task, children.Wait());
      done += static_cast<int64_t>(task->clips.size());
      progress(done, settings.clips);
    }
  }
  return absl::OkStatus();
}

}  // namespace muster::worker
