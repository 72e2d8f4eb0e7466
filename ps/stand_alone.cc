#include "ps/stand_alone.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

#include "configs/rules.h"
#include "ps/declared_server.h"
#include "rpc/allocator.h"
#include "rpc/process_transport.h"
#include "telemetry/build_id.h"

namespace muster::ps {
namespace {

constexpr std::string_view kListen = "--listen=", kConfig = "--config=";

struct Arguments {
  std::string listen, config, token;
};

absl::StatusOr<Arguments> Parse(int argc, char** argv, const char* token) {
  Arguments out;
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    if (arg.starts_with(kListen)) {
      out.listen = arg.substr(kListen.size());
    } else if (arg.starts_with(kConfig)) {
      out.config = arg.substr(kConfig.size());
    } else {
      return absl::InvalidArgumentError(
          fmt::format("unknown argument {}; write --listen=HOST:PORT --config=FILE", arg));
    }
  }
  if (out.config.empty()) return absl::InvalidArgumentError("--config=FILE is missing");
  if (token == nullptr || *token == '\0') {
    return absl::InvalidArgumentError(
        "MUSTER_JOB_TOKEN is not set; programs with the same value may connect");
  }
  out.token = token;
  return out;
}

// `training` of the job file; nothing else of it is looked at.
absl::StatusOr<Training> ReadTraining(const std::string& path) {
  JobDraft draft;
  if (ReadJobFile(path, &draft)) CheckTraining(&draft);
  if (draft.problems.empty() && draft.job.training().schedule().empty()) {
    return absl::InvalidArgumentError(fmt::format(
        "{}: training.schedule is missing; write - {{steps: 1000, learningRate: 0.1}}", path));
  }
  if (!draft.problems.empty()) return absl::InvalidArgumentError(draft.problems.Text());
  RETURN_IF_ERROR(OptimizerOf(draft.job.training()).status());
  return draft.job.training();
}

absl::Status Serve(const Arguments& arguments, Training training, const sigset_t& signals,
                   Log& log) {
  ASSIGN_OR_RETURN(const auto transport, rpc::MakeProcessTransport(log));
  DeclaredServerOptions options;
  options.training = std::move(training);
  options.memory_bytes = sysconf(_SC_PHYS_PAGES) * int64_t{sysconf(_SC_PAGESIZE)};
  options.allocate = [&transport](size_t size) { return transport->Allocate(size); };
  DeclaredServer server(std::move(options), log);
  rpc::Hello self;
  self.protocol_version = rpc::kProtocolVersion;
  self.build_id = BuildId();
  self.job_token = arguments.token;
  self.service = "params";
  self.role = "ps";
  ASSIGN_OR_RETURN(const auto listener,
                   transport->Listen(arguments.listen, self, server.acceptor()));
  fmt::print("serving at {}\n", listener->address());
  std::fflush(stdout);
  int signal = 0;
  sigwait(&signals, &signal);
  return absl::OkStatus();
}

}  // namespace

bool WantsStandAlone(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]).starts_with(kListen)) return true;
  }
  return false;
}

int RunStandAlone(int argc, char** argv, const char* token) {
  const auto fail = [](int code, const absl::Status& status) {
    fmt::print(stderr, "ps: {}\n", std::string(status.message()));
    return code;
  };
  const auto arguments = Parse(argc, argv, token);
  if (!arguments.ok()) return fail(2, arguments.status());
  auto training = ReadTraining(arguments->config);
  if (!training.ok()) return fail(2, training.status());
  rpc::TuneAllocator();
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  const std::unique_ptr<Log> log = Log::ToStderr("ps");
  const absl::Status status = Serve(*arguments, *std::move(training), signals, *log);
  return status.ok() ? 0 : fail(1, status);
}

}  // namespace muster::ps
