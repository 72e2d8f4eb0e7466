#include "cluster/predict.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace muster::cluster {
namespace {

constexpr size_t kTop = 3;  // labels per file

// "yes        97.9 %   no          1.3 %   …"
std::string FormatTop(std::span<const double> probabilities, const std::vector<std::string>& labels,
                      size_t label_width) {
  std::vector<size_t> order(probabilities.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return probabilities[a] > probabilities[b]; });
  std::string text;
  for (size_t i = 0; i < std::min(kTop, order.size()); ++i) {
    text += fmt::format("   {:<{}} {:5.1f} %", labels[order[i]], label_width,
                        100 * probabilities[order[i]]);
  }
  return text;
}

}  // namespace

int RunPredict(const std::string& job_dir, std::span<const std::string> files,
               const MakeModule& make_module, std::FILE* out, std::FILE* err) {
  std::vector<std::string> warnings;
  auto model = TrainedModel::Open(job_dir, make_module, /*threads=*/1, &warnings);
  for (const std::string& warning : warnings) fmt::print(err, "{}\n", warning);
  if (!model.ok()) {
    fmt::print(err, "{}\n", std::string(model.status().message()));
    return ExitCodeOf(model.status());
  }
  size_t file_width = 0;
  for (const std::string& file : files) file_width = std::max(file_width, file.size());
  size_t label_width = 0;
  for (const std::string& label : (*model)->labels()) {
    label_width = std::max(label_width, label.size());
  }
  int exit_code = 0;
  for (const std::string& file : files) {
    const auto probabilities = (*model)->Predict(file);
    if (probabilities.ok()) {
      fmt::print(out, "{:<{}}{}\n", file, file_width,
                 FormatTop(*probabilities, (*model)->labels(), label_width));
    } else {
      fmt::print(err, "{}\n", std::string(probabilities.status().message()));
      exit_code = 1;
    }
  }
  return exit_code;
}

}  // namespace muster::cluster
