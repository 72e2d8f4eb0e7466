#include "cluster/jobs_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <map>
#include <optional>
#include <thread>
#include <utility>

#include "cluster/attach_command.h"
#include "cluster/job_logs.h"
#include "cluster/job_look.h"
#include "cluster/job_queue.h"
#include "cluster/journal.h"
#include "cluster/node_set.h"
#include "cluster/printable.h"
#include "cluster/providers.h"
#include "cluster/stopped_machines.h"
#include "configs/nearest.h"
#include "configs/scalar.h"
#include "master/job_directory.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

constexpr char kHelp[] =
    R"(usage: launch jobs list [--all]
       launch jobs describe JOB
       launch jobs logs JOB [-f] [--role ROLE]
       launch jobs cancel JOB

The jobs that were started from this machine; --all lists those whose directories are gone, too. JOB is an id, the beginning of one, or a job directory.
logs prints what the roles have written, in the order of time; -f goes on until the job ends; ROLE is
one of them, such as worker-3. cancel has the job's launcher end it as Ctrl-C does: the step is
finished and a checkpoint saved.
)";

// How long a line may wait before it is shown.
constexpr std::chrono::milliseconds kFollowPause(100);

struct JobsWords {
  std::string verb, job, role;
  bool follow = false, all = false, help = false;
};

absl::StatusOr<JobsWords> Parse(const std::vector<std::string>& words) {
  JobsWords parsed;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word == "--help" || word == "-h") {
      parsed.help = true;
    } else if (word == "-f" || word == "--follow") {
      parsed.follow = true;
    } else if (word == "--all") {
      parsed.all = true;
    } else if (word == "--role" && i + 1 < words.size()) {
      parsed.role = words[++i];
    } else if (word.starts_with("--role=")) {
      parsed.role = word.substr(word.find('=') + 1);
    } else if (word.starts_with("-")) {
      return absl::InvalidArgumentError(
          fmt::format("launch jobs has no flag {}; see launch jobs --help", Quoted(word)));
    } else if (parsed.verb.empty()) {
      parsed.verb = word;
    } else if (parsed.job.empty()) {
      parsed.job = word;
    } else {
      return absl::InvalidArgumentError(fmt::format("{} is one word too many", Quoted(word)));
    }
  }
  if (parsed.help) return parsed;
  const std::vector<std::string> verbs = {"list", "describe", "logs", "cancel"};
  if (std::count(verbs.begin(), verbs.end(), parsed.verb) == 0) {
    return absl::InvalidArgumentError(
        parsed.verb.empty() ? "write launch jobs list, describe, logs or cancel"
                            : fmt::format("launch jobs does not know {}; {}", Quoted(parsed.verb),
                                          WriteNearest(parsed.verb, verbs)));
  }
  if (parsed.verb != "logs" && (parsed.follow || !parsed.role.empty())) {
    return absl::InvalidArgumentError("-f and --role belong to launch jobs logs");
  }
  if (parsed.verb != "list" && parsed.all) {
    return absl::InvalidArgumentError("--all belongs to launch jobs list");
  }
  if (parsed.verb == "list" && !parsed.job.empty()) {
    return absl::InvalidArgumentError(
        fmt::format("launch jobs list takes no job; write launch jobs describe {}", parsed.job));
  }
  if (parsed.verb != "list" && parsed.job.empty()) {
    return absl::InvalidArgumentError(fmt::format(
        "no job is named; write launch jobs {} JOB, with a JOB of launch jobs list", parsed.verb));
  }
  return parsed;
}

// A line for each job whose machines may cost something and that no launcher follows.
std::string StillRented(const std::string& folder, int64_t now_ms) {
  std::string text;
  for (const std::string& job : MachineJournal::Jobs(folder)) {
    const auto journal = MachineJournal::TakeOver(folder, job);
    if (absl::IsDataLoss(journal.status())) {
      text += fmt::format("{}: what it has rented is not known: {}\n", job,
                          Printable(std::string(journal.status().message())));
    }
    if (!journal.ok() || !BillsTheUser((*journal)->head().cluster.provider())) continue;
    if ((*journal)->stopped_ms() != 0) {
      text += fmt::format("{}: {}\n", job, StoppedText(**journal));
      continue;
    }
    text +=
        (*journal)->left_until_ms() > now_ms
            ? fmt::format("{}: its machines cost until it is over: {}\n", job, LeftText(**journal))
            : fmt::format(
                  "{}: no launch holds its machines any more, which may still cost: "
                  "launch gc gives them back\n",
                  job);
  }
  return text;
}

// As a line of the list; `place` among those of its provider, from 1 on.
JobLook LookOfQueued(const QueuedJob& job, size_t place) {
  JobLook look;
  look.entry = {job.job_id, job.job_dir, job.provider, job.queued_ms};
  look.shown = "QUEUED";
  look.problem =
      fmt::format("place {}, priority {}: it waits for cluster.limits", place, job.priority);
  return look;
}

std::vector<JobLook> LooksOfQueued(const JobQueue& queue) {
  std::vector<JobLook> looks;
  std::map<std::string, size_t> places;
  for (const QueuedJob& job : queue.Waiting()) {
    looks.push_back(LookOfQueued(job, ++places[job.provider]));
  }
  return looks;
}

int List(const JobRegistry& registry, const std::string& machines, const JobQueue& queue, bool all,
         const CommandContext& context) {
  std::vector<std::string> damaged;
  std::vector<JobLook> looks = LooksOfQueued(queue);
  const size_t queued = looks.size();
  for (const JobEntry& entry : registry.Read(&damaged)) {
    // What was there before it was started again does not count.
    const bool waits =
        std::any_of(looks.begin(), looks.begin() + static_cast<ptrdiff_t>(queued),
                    [&](const JobLook& look) { return look.entry.job_dir == entry.job_dir; });
    if (!waits) looks.push_back(Look(entry));
  }
  for (const std::string& line : damaged) fmt::print(context.err, "warning: {}\n", line);
  const size_t known = looks.size();
  if (!all) std::erase_if(looks, [](const JobLook& look) { return look.shown == "GONE"; });
  if (!looks.empty()) fmt::print(context.out, "{}", JobTable(looks, UnixMillis()));
  if (known == 0) fmt::print(context.out, "no job was started from this machine yet\n");
  if (looks.size() < known) {
    fmt::print(context.out, "{} more, whose directories are gone: launch jobs list --all\n",
               known - looks.size());
  }
  fmt::print(context.out, "{}", StillRented(machines, UnixMillis()));
  return kSucceeded;
}

int Logs(const JobEntry& entry, const JobsWords& words, const CommandContext& context) {
  JobLogs logs(master::JobDirectory(entry.job_dir).logs(), words.role);
  const std::vector<std::string> roles = logs.Roles();
  if (!words.role.empty() && std::count(roles.begin(), roles.end(), words.role) == 0) {
    fmt::print(context.err, "{} has no log of {}; {}\n", entry.job_id, Printable(words.role),
               roles.empty() ? "it has none yet" : WriteNearest(words.role, roles));
    return kWrongInput;
  }
  for (;;) {
    const JobLook look = Look(entry);
    const bool last = !words.follow || !look.holder.held;
    const std::string text = logs.Take(/*all=*/last);
    std::fwrite(text.data(), 1, text.size(), context.out);
    if (std::fflush(context.out) != 0) return kJobFailed;  // nobody reads any more
    if (last && words.follow && look.shown == "DETACHED") {
      fmt::print(context.err,
                 "the job goes on: launch attach {} brings what it has written since\n",
                 entry.job_id);
    }
    if (last) return kSucceeded;
    std::this_thread::sleep_for(kFollowPause);
  }
}

int Cancel(const JobEntry& entry, const CommandContext& context, const AttachToJob& attach) {
  const JobLook look = Look(entry);
  if (look.state && master::IsFinal(look.state->state) && !look.holder.held) {
    fmt::print(context.err, "{} has ended already: {}\n", entry.job_id, look.shown);
    return kJobFailed;
  }
  if (!look.holder.held && entry.provider != "LOCAL")
    return Attach(entry, context, attach, /*cancel=*/true);
  // Not SIGINT, after which a launcher with a terminal asks.
  const absl::Status sent = SignalHolder(entry.job_dir, SIGTERM);
  if (!sent.ok()) {
    fmt::print(context.err, "{}\n", std::string(sent.message()));
    return kJobFailed;
  }
  fmt::print(context.out,
             "{} was told to end {}: it finishes the step and saves a checkpoint; launch jobs "
             "describe {} shows when it has\n",
             look.holder.text, entry.job_id, entry.job_id);
  return kSucceeded;
}

int DescribeQueued(const QueuedJob& job, const JobQueue& queue, const CommandContext& context) {
  for (const JobLook& look : LooksOfQueued(queue)) {
    if (look.entry.job_dir != job.job_dir) continue;
    fmt::print(context.out, "{}", DescribeJob(look, UnixMillis()));
    return kSucceeded;
  }
  fmt::print(context.err, "{} does not wait any more: see launch jobs list\n", job.job_id);
  return kJobFailed;
}

// Takes it out of the queue.
int CancelQueued(const QueuedJob& job, const CommandContext& context) {
  if (kill(job.pid, SIGTERM) != 0) {
    fmt::print(context.err, "{} does not wait any more: see launch jobs list\n", job.job_id);
    return kJobFailed;
  }
  fmt::print(context.out, "{} does not wait any more: nothing of it was started\n", job.job_id);
  return kSucceeded;
}

}  // namespace

int RunJobsCommand(const CommandContext& context, const std::string& registry_folder,
                   const std::string& machines, const JobQueue& queue, const AttachToJob& attach) {
  const auto words = Parse(context.words);
  if (!words.ok()) {
    fmt::print(context.err, "{}\n", std::string(words.status().message()));
    return kWrongInput;
  }
  if (words->help) {
    fmt::print(context.out, "{}", kHelp);
    return kSucceeded;
  }
  const JobRegistry registry(registry_folder);
  if (words->verb == "list") return List(registry, machines, queue, words->all, context);
  const auto entry = registry.Find(words->job);
  if (const auto queued =
          queue.FindWaiting(words->job, /*beginning=*/absl::IsNotFound(entry.status()))) {
    if (words->verb == "cancel") return CancelQueued(*queued, context);
    if (words->verb == "describe") return DescribeQueued(*queued, queue, context);
    fmt::print(context.err, "{} has no logs yet: it waits for its turn\n", queued->job_id);
    return kWrongInput;
  }
  if (!entry.ok()) {
    fmt::print(context.err, "{}\n", std::string(entry.status().message()));
    return kWrongInput;
  }
  if (words->verb == "logs") return Logs(*entry, *words, context);
  if (words->verb == "cancel") return Cancel(*entry, context, attach);
  fmt::print(context.out, "{}", DescribeJob(Look(*entry), UnixMillis()));
  return kSucceeded;
}

}  // namespace muster::cluster
