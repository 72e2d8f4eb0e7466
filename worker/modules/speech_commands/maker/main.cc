// make_speech_data: makes a synthetic data set in the layout of the Speech Commands archive.
//
// This program links espeak-ng and is therefore distributed under the GNU General Public License,
// version 3 or later. Nothing else of Muster links it or its library; its other source files remain
// under the Apache License, version 2.0.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sched.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>

#include "worker/modules/speech_commands/maker/make.h"

namespace {

using Clock = std::chrono::steady_clock;

// A bar on a terminal, a line per tenth elsewhere.
class ProgressDisplay {
 public:
  void operator()(int64_t done, int64_t all) {
    if (first_ < 0) first_ = done;
    const double seconds = std::chrono::duration<double>(Clock::now() - begin_).count();
    const double rate = static_cast<double>(done - first_) / std::max(seconds, 1e-3);
    if (terminal_) {
      const int full = static_cast<int>(40 * done / std::max<int64_t>(all, 1));
      fmt::print(stderr, "\r[{:<40}] {}/{} clips  {:.0f}/s  {:.0f} s left \x1b[K",
                 std::string(full, '#'), done, all, rate,
                 rate > 0 ? static_cast<double>(all - done) / rate : 0.0);
      if (done == all) fmt::print(stderr, "\n");
      std::fflush(stderr);
    } else if (const int64_t tenth = 10 * done / std::max<int64_t>(all, 1); tenth > tenth_) {
      tenth_ = tenth;
      fmt::print(stderr, "{}/{} clips, {:.0f}/s\n", done, all, rate);
    }
  }

 private:
  const bool terminal_ = isatty(STDERR_FILENO) == 1;
  const Clock::time_point begin_ = Clock::now();
  int64_t first_ = -1, tenth_ = -1;
};

int Cores() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? std::max(1, CPU_COUNT(&set)) : 1;
}

// The folder with espeak-ng's data in the archive that this program travels in; "" elsewhere.
std::string OwnShare() {
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::filesystem::path share = program.parent_path().parent_path() / "share";
  return std::filesystem::exists(share / "espeak-ng-data", error) ? share.string() : "";
}

}  // namespace

int main(int argc, char** argv) {
  using muster::worker::Engine;
  muster::worker::MakeSettings settings;
  settings.processes = Cores();
  settings.plan.words = {"yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"};
  settings.plan.unknown = {"bed",   "bird",  "cat",    "dog",   "eight", "five",
                           "happy", "house", "marvin", "seven", "three", "wow"};
  std::string engine_name = "espeak";

  CLI::App app(
      "Makes synthetic speech in the layout of the Speech Commands archive: "
      "WORD/SPEAKER_nohash_N.wav, "
      "16 kHz, mono, 16 bits, one second, and _background_noise_/*.wav. The same command completes "
      "a set; "
      "the first N clips do not depend on --clips.\n"
      "This program links espeak-ng: GNU General Public License, version 3 or later.");
  app.add_option("--out", settings.out, "the folder of the set")->required();
  app.add_option("--clips", settings.clips, "how many clips")
      ->check(CLI::Range(int64_t{1}, int64_t{100000000}))
      ->capture_default_str();
  app.add_option("--seed", settings.plan.seed, "another seed, another set")->capture_default_str();
  app.add_option("--words", settings.plan.words, "the words to learn; five sixths of the clips")
      ->delimiter(',');
  app.add_option("--unknown", settings.plan.unknown, "other words; the rest of the clips")
      ->delimiter(',');
  app.add_option(
         "--engine", engine_name,
         "espeak: 560 voices; flite: four voices of another synthesiser, all of them for testing")
      ->check(CLI::IsMember({"espeak", "flite"}))
      ->capture_default_str();
  app.add_option("--noise-seconds", settings.noise_seconds, "of each kind of background noise")
      ->check(CLI::Range(2, 3600))
      ->capture_default_str();
  app.add_option("--processes", settings.processes, "at the same time")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  bool if_missing = false;
  app.add_flag("--if-missing", if_missing, "leave --out as it is where it holds another set");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }

  absl::StatusOr<std::unique_ptr<Engine>> engine =
      engine_name == "espeak" ? muster::worker::MakeEspeakEngine(OwnShare())
                              : muster::worker::MakeFliteEngine(settings.out + "/flite.part");
  absl::Status status = engine.status();
  if (status.ok()) {
    status = muster::worker::Make(**engine, settings, ProgressDisplay());
  }
  if (if_missing && absl::IsFailedPrecondition(status)) {
    fmt::print("{} holds a data set, which stays as it is\n", settings.out);
    return 0;
  }
  if (!status.ok()) {
    fmt::print(stderr, "make_speech_data: {}\n", std::string(status.message()));
    return 1;
  }
  fmt::print("{} clips of {} in {}\n", settings.clips, fmt::join(settings.plan.words, ", "),
             settings.out);
  return 0;
}
