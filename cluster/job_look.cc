#include "cluster/job_look.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <utility>

#include "cluster/printable.h"
#include "cluster/providers.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

using master::JobState;

constexpr double kMillisPerHour = 3'600'000;

std::string Steps(const JobLook& look) {
  return look.state ? fmt::format("{}/{}", look.state->step, look.state->total_steps) : "-";
}

std::string Dollars(std::optional<double> dollars) {
  return dollars ? fmt::format("{:.2f}", *dollars) : "-";
}

// None where nothing is paid.
std::optional<double> DollarsPerHour(const JobLook& look) {
  Cluster::Provider provider = Cluster::LOCAL;
  if (!Cluster::Provider_Parse(look.entry.provider, &provider) || !BillsTheUser(provider)) {
    return std::nullopt;
  }
  if (!look.state || look.state->dollars_per_hour <= 0) return std::nullopt;
  return look.state->dollars_per_hour;
}

}  // namespace

JobLook Look(const JobEntry& entry) {
  JobLook look;
  look.entry = entry;
  std::error_code error;
  if (!std::filesystem::is_directory(entry.job_dir, error)) {
    look.shown = "GONE";
    look.problem = "its directory is gone";
    return look;
  }
  const auto holder = LookAtHolder(entry.job_dir);
  if (holder.ok()) look.holder = *holder;
  auto state = ReadStateOf(entry.job_dir);
  if (!state.ok()) {
    look.shown = "UNKNOWN";
    look.problem = Printable(std::string(state.status().message()));
    return look;
  }
  look.state = *std::move(state);
  look.shown = master::RunStateName(look.state->state);
  if (!master::IsFinal(look.state->state) && holder.ok() && !look.holder.held) {
    look.shown = entry.stays && entry.provider != "LOCAL" ? "DETACHED" : "LOST";
    if (entry.provider.empty()) {
      look.shown = "UNKNOWN";
      look.problem = "nobody here runs it; launch attach asks its hosts";
    }
  }
  return look;
}

int64_t RunMillis(const JobLook& look, int64_t now_ms) {
  if (!look.state || look.entry.began_ms == 0) return 0;
  int64_t end = now_ms;
  if (master::IsFinal(look.state->state) && look.state->end_ms != 0) end = look.state->end_ms;
  if (look.shown == "LOST") end = look.state->update_ms;
  return std::max<int64_t>(0, end - look.entry.began_ms);
}

std::optional<double> DollarsSoFar(const JobLook& look, int64_t now_ms) {
  const std::optional<double> per_hour = DollarsPerHour(look);
  if (!per_hour) return std::nullopt;
  return *per_hour * static_cast<double>(RunMillis(look, now_ms)) / kMillisPerHour;
}

std::string JobTable(const std::vector<JobLook>& looks, int64_t now_ms) {
  using Row = std::array<std::string, 8>;
  std::vector<Row> rows = {
      {"job", "provider", "state", "step", "age", "$/h", "$ so far", "directory"}};
  for (const JobLook& look : looks) {
    rows.push_back(
        {look.entry.job_id, look.entry.provider.empty() ? "-" : look.entry.provider, look.shown,
         Steps(look), FormatDuration(now_ms - look.entry.began_ms), Dollars(DollarsPerHour(look)),
         Dollars(DollarsSoFar(look, now_ms)),
         look.entry.job_dir + (look.problem.empty() ? "" : fmt::format("  ({})", look.problem))});
  }
  std::array<size_t, 8> widths{};
  for (const Row& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const Row& row : rows) {
    for (size_t i = 0; i + 1 < row.size(); ++i) {
      const bool number = i >= 3;
      text += fmt::format(fmt::runtime(number ? "{:>{}}  " : "{:<{}}  "), row[i], widths[i]);
    }
    text += row.back() + "\n";
  }
  return text;
}

std::string DescribeJob(const JobLook& look, int64_t now_ms) {
  std::string text;
  const auto line = [&text](std::string_view name, std::string_view value) {
    if (!value.empty()) text += fmt::format("{:<16} {}\n", name, value);
  };
  const auto time = [](int64_t ms) { return ms == 0 ? std::string() : FormatTime(ms); };
  const std::string& id = look.entry.job_id;
  line("job", id);
  line("provider", look.entry.provider);
  line("directory", look.entry.job_dir);
  line("state", look.shown);
  line("", look.problem);
  if (look.shown == "LOST") {
    line("", "nobody runs it: launch again with this --job-dir to go on from its last checkpoint");
  } else if (look.shown == "DETACHED") {
    line("", fmt::format("it goes on without a launcher; what follows is as of its last one: "
                         "launch attach {}",
                         id));
  }
  line("began", time(look.entry.began_ms));
  if (look.holder.held) line("run by", look.holder.text);
  if (!look.state) return text;
  const JobState& state = *look.state;
  line("error", Printable(state.error_message));
  line("trains since", time(state.start_ms));
  line("ended", time(state.end_ms));
  line("last written", time(state.update_ms));
  line("step", fmt::format("{} of {}", state.step, state.total_steps));
  const auto number = [&](std::string_view name, const std::optional<double>& value) {
    if (value) line(name, fmt::format("{:.4g}", *value));
  };
  number("loss", state.metrics.train_loss);
  number("validation", state.metrics.validation_accuracy);
  number("test", state.metrics.test_accuracy);
  number("samples/s", state.metrics.samples_per_second);
  number("$/h", DollarsPerHour(look));
  if (const auto dollars = DollarsSoFar(look, now_ms)) line("$ so far", Dollars(dollars));
  if (state.last_checkpoint) line("checkpoint", Printable(state.last_checkpoint->path));
  line("model", Printable(state.model_path));
  for (const master::ReplicaState& replica : state.replicas) {
    line(Printable(fmt::format("{}-{}", replica.role, replica.index)),
         Printable(fmt::format("{}{}{}{}{}", replica.state, replica.host.empty() ? "" : " on ",
                               replica.host, replica.detail.empty() ? "" : ": ", replica.detail)));
  }
  return text;
}

}  // namespace muster::cluster
