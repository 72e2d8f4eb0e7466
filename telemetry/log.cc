#include "telemetry/log.h"

#include <spdlog/sinks/null_sink.h>
#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

namespace muster {
namespace {

class SpdLog : public Log {
 public:
  SpdLog(spdlog::sink_ptr sink, std::string role) : logger_(std::move(role), std::move(sink)) {
    logger_.set_pattern(
        logger_.name().empty() ? "%Y-%m-%dT%H:%M:%S.%eZ %L %v" : "%Y-%m-%dT%H:%M:%S.%eZ %n %L %v",
        spdlog::pattern_time_type::utc);
    // Every line reaches the file at once: a role that is killed must leave its last words.
    logger_.flush_on(spdlog::level::info);
  }

  void Write(Level level, std::string_view text) override {
    const auto spd_level = level == Level::kInfo      ? spdlog::level::info
                           : level == Level::kWarning ? spdlog::level::warn
                                                      : spdlog::level::err;
    logger_.log(spd_level, spdlog::string_view_t(text.data(), text.size()));
  }

 private:
  spdlog::logger logger_;
};

}  // namespace

std::unique_ptr<Log> Log::ToStderr(std::string role) {
  return std::make_unique<SpdLog>(std::make_shared<spdlog::sinks::stderr_sink_mt>(),
                                  std::move(role));
}

absl::StatusOr<std::unique_ptr<Log>> Log::ToFile(const std::string& path, std::string role,
                                                 size_t max_bytes, int keep) {
  try {
    auto sink = std::make_shared<spdlog::sinks::rotating_file_sink_mt>(path, max_bytes, keep);
    return std::make_unique<SpdLog>(std::move(sink), std::move(role));
  } catch (const spdlog::spdlog_ex& e) {
    return absl::UnavailableError(fmt::format("cannot open the log file {}: {}", path, e.what()));
  }
}

std::unique_ptr<Log> Log::Discard() {
  return std::make_unique<SpdLog>(std::make_shared<spdlog::sinks::null_sink_mt>(), "");
}

}  // namespace muster
