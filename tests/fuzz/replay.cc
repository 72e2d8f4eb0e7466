// Stands in for libFuzzer where there is none: runs a fuzz target on every file of its corpus, then
// on seeded mutations of them.
//
//   TARGET RUNS CORPUS [SEED]
//
// A failure aborts; the seed and the number of the run say how to get there again.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

constexpr size_t kMaxBytes = 4096;

char where[200];  // what runs, for the signal handler

void SayWhere(int signal) {
  const char* end = std::find(where, where + sizeof(where), '\0');
  [[maybe_unused]] const ssize_t written = write(2, where, static_cast<size_t>(end - where));
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void Run(const std::string& input, const std::string& name) {
  *fmt::format_to_n(where, sizeof(where) - 2, "in {}\n", name).out = '\0';
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
}

class Mutator {
 public:
  Mutator(uint32_t seed, const std::vector<std::string>& corpus) : rng_(seed), corpus_(corpus) {}

  std::string Next() {
    std::string out = Any();
    for (auto n = 1 + rng_() % 8; n > 0; --n) Mutate(out);
    if (out.size() > kMaxBytes) out.resize(kMaxBytes);
    return out;
  }

 private:
  const std::string& Any() { return corpus_[rng_() % corpus_.size()]; }
  size_t At(const std::string& text) { return rng_() % (text.size() + 1); }

  void Mutate(std::string& out) {
    const size_t at = At(out), n = rng_() % 16;
    switch (rng_() % 6) {
      case 0:
        if (at < out.size()) out[at] = static_cast<char>(rng_());
        break;
      case 1:
        if (at < out.size()) out[at] = static_cast<char>(out[at] ^ (1 << rng_() % 8));
        break;
      case 2:
        out.erase(at, n);
        break;
      case 3:
        out.insert(at, n, static_cast<char>(rng_()));
        break;
      case 4:  // a part twice
        out.insert(at, out.substr(At(out), n * 8));
        break;
      default: {  // the end of another
        const std::string& other = Any();
        out = out.substr(0, at) + other.substr(At(other));
      }
    }
  }

  std::mt19937 rng_;
  const std::vector<std::string>& corpus_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return 2;
  const int runs = std::atoi(argv[1]);
  const uint32_t seed = argc > 3 ? static_cast<uint32_t>(std::atoi(argv[3])) : 1;
  for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL}) std::signal(signal, SayWhere);
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::directory_iterator(argv[2])) {
    paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  std::vector<std::string> corpus;
  for (const std::string& path : paths) {
    std::ifstream in(path, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
    Run(corpus.back(), path);
  }
  if (corpus.empty()) {
    fmt::print(stderr, "no corpus in {}\n", argv[2]);
    return 2;
  }
  Mutator mutator(seed, corpus);
  for (int run = 0; run < runs; ++run) {
    Run(mutator.Next(), fmt::format("run {} of seed {}", run, seed));
  }
  fmt::print("{} files and {} mutations of them, seed {}\n", corpus.size(), runs, seed);
  return 0;
}
