#include "master/role_main.h"

#include <fmt/format.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>

#include "master/job_directory.h"
#include "rpc/allocator.h"
#include "rpc/process_transport.h"
#include "telemetry/build_id.h"
#include "telemetry/host_name.h"

namespace muster::master {
namespace {

absl::Status ParseNumber(std::string_view name, std::string_view text, int* out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  if (error != std::errc() || end != text.data() + text.size() || *out < 0) {
    return absl::InvalidArgumentError(fmt::format("{}={}: not a number", name, text));
  }
  return absl::OkStatus();
}

// One of the names of a field of the job.
template <class Enum>
absl::Status ParseName(std::string_view name, std::string_view text,
                       bool (*parse)(google::protobuf::ConstStringParam, Enum*), Enum* out) {
  if (parse(std::string(text), out)) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format("{}={}: no such value", name, text));
}

}  // namespace

absl::StatusOr<RoleArguments> ParseRoleArguments(int argc, char** argv, const char* token,
                                                 const char* identity) {
  RoleArguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string_view arg = argv[i];
    const size_t equals = arg.find('=');
    const std::string_view name = arg.substr(0, equals);
    const std::string_view value =
        equals == std::string_view::npos ? std::string_view() : arg.substr(equals + 1);
    if (name == "--master") {
      arguments.master = value;
    } else if (name == "--role") {
      arguments.role = value;
    } else if (name == "--job-dir") {
      arguments.job_dir = value;
    } else if (name == "--index") {
      RETURN_IF_ERROR(ParseNumber(name, value, &arguments.index));
    } else if (name == "--threads") {
      RETURN_IF_ERROR(ParseNumber(name, value, &arguments.threads));
    } else if (name == "--first-core") {
      RETURN_IF_ERROR(ParseNumber(name, value, &arguments.first_core));
    } else if (name == "--host") {
      arguments.host = value;
    } else if (name == "--ports") {
      arguments.ports = value;
    } else if (name == "--gpus") {
      RETURN_IF_ERROR(ParseNumber(name, value, &arguments.gpus.wanted));
    } else if (name == "--trainer") {
      RETURN_IF_ERROR(ParseNumber(name, value, &arguments.gpus.process));
    } else if (name == "--trainers") {
      RETURN_IF_ERROR(ParseNumber(name, value, &arguments.gpus.processes));
    } else if (name == "--device") {
      RETURN_IF_ERROR(ParseName(name, value, Training::Device_Parse, &arguments.device));
    } else if (name == "--precision") {
      RETURN_IF_ERROR(ParseName(name, value, Training::Precision_Parse, &arguments.precision));
    } else if (arg == "--cuda-graphs=false") {
      arguments.cuda_graphs = false;
    } else if (arg == "--shared-memory=false") {
      arguments.shared_memory = false;
    } else {
      return absl::InvalidArgumentError(fmt::format(
          "unknown argument {}; this program is started by `launch`, see launch --help", arg));
    }
  }
  if (arguments.job_dir.empty()) {
    return absl::InvalidArgumentError(
        "--job-dir is missing; this program is started by `launch`, see launch --help");
  }
  if (token == nullptr || *token == '\0') {
    return absl::InvalidArgumentError("MUSTER_JOB_TOKEN is not set; `launch` sets it");
  }
  arguments.token = token;
  ASSIGN_OR_RETURN(arguments.identity, rpc::ParseIdentity(identity == nullptr ? "" : identity));
  return arguments;
}

ProcessPage ServeProcessPage(std::string role, int index, Log& log) {
  auto page = MetricsPage::Serve();
  if (!page.ok()) {
    log.Warning("{}", std::string(page.status().message()));
    return {};
  }
  auto shown = (*page)->Show([role = std::move(role), index](std::vector<Metric>& out) {
    ProcessMetrics(role, index, out);
  });
  return {*std::move(page), std::move(shown)};
}

int RunRoleProgram(int argc, char** argv, absl::Status (*run)(const RoleOptions&),
                   LeaveNotice* leave) {
  const auto arguments = ParseRoleArguments(argc, argv, std::getenv("MUSTER_JOB_TOKEN"),
                                            std::getenv("MUSTER_IDENTITY"));
  if (!arguments.ok() || arguments->master.empty() || arguments->role.empty()) {
    fmt::print(stderr, "{}: {}\n", argv[0],
               arguments.ok() ? "--master and --role are missing; `launch` starts this program"
                              : std::string(arguments.status().message()));
    return 2;
  }
  rpc::TuneAllocator();
  const JobDirectory dir(arguments->job_dir);
  const std::string name = fmt::format("{}-{}", arguments->role, arguments->index);
  auto log = Log::ToFile(dir.log(arguments->role, arguments->index), name);
  if (!log.ok()) {
    fmt::print(stderr, "{}: {}\n", name, std::string(log.status().message()));
    return 1;
  }
  auto transport = rpc::MakeProcessTransport(**log, arguments->shared_memory, arguments->identity);
  if (!transport.ok()) {
    (*log)->Error("{}", std::string(transport.status().message()));
    return 1;
  }
  const ProcessPage metrics = ServeProcessPage(arguments->role, arguments->index, **log);
  RoleOptions options;
  options.metrics = metrics.page.get();
  if (arguments->role == "worker") options.leave = leave;
  options.transport = transport->get();
  options.log = log->get();
  options.self.protocol_version = rpc::kProtocolVersion;
  options.self.build_id = BuildId();
  options.self.job_token = arguments->token;
  options.self.role = arguments->role;
  options.self.index = arguments->index;
  options.master_address = arguments->master;
  options.listen_address = arguments->host + ":" + arguments->ports;
  options.job_dir = arguments->job_dir;
  options.host = HostName();
  options.pid = getpid();
  options.first_core = arguments->first_core;
  options.make_device = [&arguments] {
    return MakeTrainerDevice(
        arguments->device, GpuOptionsOf(arguments->precision, arguments->cuda_graphs),
        std::max(1, arguments->threads), arguments->gpus,
        DefaultGpuSearch(BuildId(), std::getenv("HOME"), std::getenv("VIRTUAL_ENV")));
  };
  options.make_module = MakeModuleOf;
  const absl::Status status = run(options);
  if (!status.ok()) (*log)->Error("ended: {}", std::string(status.message()));
  return status.ok() || absl::IsCancelled(status) ? 0 : 1;
}

}  // namespace muster::master
