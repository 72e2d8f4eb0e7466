#include "worker/modules/speech_commands/corpus.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <filesystem>
#include <set>
#include <system_error>

#include "kernels/philox.h"
#include "telemetry/file.h"
#include "worker/modules/speech_commands/split.h"

namespace muster::worker {
namespace {

namespace fs = std::filesystem;

constexpr char kHowToGetData[] =
    "make a set with `make_speech_data --out {} --clips 8000`, or unpack the Speech Commands "
    "archive and "
    "point --data_dir at it";

std::string HowToGetData(const std::string& dir) {
  return fmt::format(fmt::runtime(kHowToGetData), dir);
}

// Names in `dir`, sorted: folders, or files that end in .wav.
absl::StatusOr<std::vector<std::string>> List(const std::string& dir, bool folders) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    std::error_code unreadable;  // a dangling link is no folder
    const fs::path& path = it->path();
    if (folders ? it->is_directory(unreadable) : path.extension() == ".wav") {
      names.push_back(path.filename().string());
    }
  }
  if (error) {
    if (error == std::errc::no_such_file_or_directory) {
      return absl::NotFoundError(
          fmt::format("{}: no such directory (--data_dir); {}", dir, HowToGetData(dir)));
    }
    return ErrnoStatus(error.value(), fmt::format("{}: cannot be listed (--data_dir)", dir));
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::string Lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

int64_t Share(size_t count, double percentage) {
  return static_cast<int64_t>(std::ceil(static_cast<double>(count) * percentage / 100));
}

}  // namespace

int64_t Corpus::num_files() const {
  int64_t files = 0;
  for (const std::vector<Clip>& split : splits_) {
    files += std::ranges::count_if(split, [](const Clip& clip) { return !clip.path.empty(); });
  }
  return files;
}

const char* SplitName(Split split) {
  switch (split) {
    case Split::kTraining:
      return "training";
    case Split::kValidation:
      return "validation";
    case Split::kTesting:
      return "testing";
  }
  return "?";
}

absl::StatusOr<Corpus> Corpus::Scan(const CorpusSettings& settings) {
  const std::string& dir = settings.data_dir;
  ASSIGN_OR_RETURN(const std::vector<std::string> folders, List(dir, /*folders=*/true));
  Corpus corpus;
  std::array<std::vector<Clip>, 3> unknown;
  std::set<std::string> words;
  for (const std::string& folder : folders) {
    const std::string word = Lower(folder);
    if (word == kNoiseFolder) continue;
    ASSIGN_OR_RETURN(const std::vector<std::string> files,
                     List(dir + "/" + folder, /*folders=*/false));
    if (files.empty()) continue;
    words.insert(word);
    const auto wanted = std::find(settings.wanted_words.begin(), settings.wanted_words.end(), word);
    const bool is_wanted = wanted != settings.wanted_words.end();
    const int32_t label =
        is_wanted ? static_cast<int32_t>(wanted - settings.wanted_words.begin()) + 2 : kUnknownWord;
    for (const std::string& file : files) {
      const int split = static_cast<int>(
          WhichSplit(file, settings.validation_percentage, settings.testing_percentage));
      (is_wanted ? corpus.splits_ : unknown)[split].push_back({folder + "/" + file, label});
    }
  }
  if (words.empty()) {
    return absl::NotFoundError(fmt::format("{}: holds no folders with .wav files (--data_dir); {}",
                                           dir, HowToGetData(dir)));
  }
  std::vector<std::string> missing;
  for (const std::string& word : settings.wanted_words) {
    if (!words.contains(word)) missing.push_back(word);
  }
  if (!missing.empty()) {
    return absl::NotFoundError(
        fmt::format("{}: no clips of {} (--wanted_words); there are clips of {}", dir,
                    fmt::join(missing, ", "), fmt::join(words, ", ")));
  }
  for (int s = 0; s < 3; ++s) {
    std::vector<Clip>& clips = corpus.splits_[s];
    const size_t wanted = clips.size();
    clips.resize(wanted + Share(wanted, settings.silence_percentage));
    // Which of the unknown words take part is not a matter of the job's seed: every job is measured
    // on the same clips.
    const PhiloxKey key = DeriveKey(0, HashName("speech_commands/unknown"), s);
    const int64_t pool = static_cast<int64_t>(unknown[s].size());
    const int64_t taken = std::min(pool, Share(wanted, settings.unknown_percentage));
    for (int64_t i = 0; i < taken; ++i) {
      clips.push_back(unknown[s][Permute(pool, key, i)]);
    }
  }
  return corpus;
}

}  // namespace muster::worker
