// What pushing and pulling through a parameter server costs: a real server process and a real
// worker process on this machine, beside the roofs taken in the same run.
//
//   bench_pushpull [--rows NAME,...] [--seconds S] [--rounds N] [--json FILE]
//                  [--svg FILE] [--smoke]
//   bench_pushpull --rows paced      n workers, k servers behind links of 200 Mbit/s: paced_1_1 to
//                  [--paced-mib M]   paced_4_4, of which a run has seven, or what --rows names
//   bench_pushpull --workers N --servers N --keys N --bytes N --transport auto|shm|grpc
//                  --direction push|pull|pushpull --optimizer NAME --codec NAME --no-fuse
//                                    one case of your own (bench/custom.h), if any of these is
//                                    there
//   --soak SECONDS                   of rss_soak (bench/server_process.h), each way; 600 are meant
//
// Roofs (one thread, through 1 GiB and more, which no cache holds):
//
//   sum       GB/s of gradients into `dst += src`
//   momentum  GB/s of gradients into a Momentum update in one pass over memory
//   tcp       GB/s of gradients over one loopback TCP connection, summed in 128 KiB chunks
//   stream    GB/s of gradients over one bare gRPC stream, summed from the received slices
//   one way   the better of grpc_push_4m and grpc_pull_4m
//   tls       1 / (1 / stream + 1 / AES-256-GCM of OpenSSL, on one core)
//   tls tcp     as tcp, encrypted by OpenSSL right above the socket
//   tls stream  as stream, encrypted: gRPC's own way through OpenSSL
//   futex     µs of a bare futex round trip between processes on two cores, both asleep
//
// adam_64m, the codecs and loop_tiny_conv are bench_optimizers', bench_codecs' and bench_launch's,
// which are run for them.
//
// They are measured first, by themselves (rows roof_NAME; `--rows roofs`), memcpy besides.
//
// Rows, each with its ratio to a roof; rounds of roof and row are interleaved, what counts is the
// median of the ratios. Every row ends with a look at the parameters: the servers must have counted
// every gradient exactly once. How the links are paced stands in bench/paced.h; that needs root.
//
// The server is this program again, started with --serve.
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "bench/chart.h"
#include "bench/child_process.h"
#include "bench/custom.h"
#include "bench/figures.h"
#include "bench/load.h"
#include "bench/load_worker.h"
#include "bench/paced.h"
#include "bench/raw_futex.h"
#include "bench/raw_stream.h"
#include "bench/raw_tcp.h"
#include "bench/roofs.h"
#include "bench/server_process.h"
#include "bench/sibling.h"
#include "bench/timing.h"
#include "ps/optimizer.h"
#include "rpc/allocator.h"
#include "rpc/identity.h"
#include "rpc/role_environment.h"
#include "telemetry/check.h"
#include "telemetry/file.h"

namespace muster {
namespace {

using namespace bench;

struct Row {
  const char* name;
  const char* unit;
  const char* roof;  // "": none
  double asked;      // of the ratio, or without a roof of the value
  Load load;
  bool push, pull;
  double scale;  // unit per step; 0: µs of a step
  int pause_us = 0;
};

// Big rows and their roofs go through 2 GiB and more, which is beyond any cache, at one time
// together through 16; on a machine with less memory, through a quarter of it.
bool HasRoom() {
  return int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE) > int64_t{20} << 30;
}

std::vector<Row> Rows(bool smoke) {
  const int big = smoke ? 2 : HasRoom() ? 256 : 64;  // of 4 MiB
  constexpr int64_t k4MiB = (4 << 20) / 4;
  const double gb = static_cast<double>(big) * (4 << 20) / 1e9;
  // Eight replicas of a quarter of it each: one copy, six additions, one addition with the update.
  const Load sum = {.params = std::max(1, big / 4), .elements = k4MiB, .replicas = 8};
  const Load one = {.params = big, .elements = k4MiB};
  const Load small = {.params = 400, .elements = 256};
  const Load unfused = {.params = 400, .elements = 256, .fused = false};
  const Load tiny = {.elements = 16};
  Load encrypted = sum;
  encrypted.tls = true;
  const auto shared = [](Load load, const char* optimizer = "sgd") {
    load.shared = true;
    load.optimizer = optimizer;
    return load;
  };
  const double sum_gb = static_cast<double>(sum.bytes()) * sum.replicas / 1e9;
  return {
      {"shm_push_4m", "GB/s", "sum", 0.85, shared(sum), true, false, sum_gb},
      {"shm_pushpull_momentum_4m", "GB/s", "momentum", 0.80, shared(one, "momentum"), true, true,
       gb},
      {"grpc_push_4m", "GB/s", "tcp", 0.65, sum, true, false, sum_gb},
      {"grpc_push_4m_stream", "GB/s", "stream", 0.95, sum, true, false, sum_gb},
      {"grpc_pull_4m", "GB/s", "tcp", 0.65, one, false, true, gb},
      {"grpc_pull_4m_stream", "GB/s", "stream", 0.95, one, false, true, gb},
      {"grpc_pushpull_4m", "GB/s", "one way", 0.9, one, true, true, 2 * gb},
      {"grpc_push_4m_tls", "GB/s", "tls", 0.85, encrypted, true, false, sum_gb},
      {"grpc_push_4m_tls_tcp", "GB/s", "tls tcp", 0.65, encrypted, true, false, sum_gb},
      {"grpc_push_4m_tls_stream", "GB/s", "tls stream", 0.95, encrypted, true, false, sum_gb},
      {"small_fused_shm", "M keys/s", "", 5, shared(small), true, true, 400 / 1e6},
      {"small_fused_grpc", "M keys/s", "", 0.5, small, true, true, 400 / 1e6},
      {"small_nofuse_shm", "M keys/s", "", 0.3, shared(unfused), true, true, 400 / 1e6},
      {"small_nofuse_grpc", "M keys/s", "", 0.05, unfused, true, true, 400 / 1e6},
      {"rtt_64b_idle", "us", "futex", 1.2, shared(tiny), true, true, 0, kAsleep_us},
      {"rtt_64b_spin", "us", "", 3, shared(tiny), true, true, 0},
  };
}

struct Options {
  std::vector<std::string> rows;
  double seconds = 0.5;
  int rounds = 9;
  std::string json, svg;
  int64_t paced_mib = 64;
  double soak = 30;
  std::string data = "data/speech_commands";
  bool smoke = false;
};

// The worker of a row: its replicas, or only a reader.
Worker WorkerOf(const Row& row, const std::string& server) {
  return Worker(row.load, {server}, {0, row.push ? row.load.replicas : 0, 0, row.load.params});
}

// Calls what a row measures.
void Once(const Row& row, Worker& worker) {
  if (row.push) {
    worker.Step(row.pull);
  } else {
    worker.Pull();
  }
}

// The better of two rows that push only and pull only: the one whose median over trials is. (The
// greater of two figures in each round would be above either, by their noise.)
Roof OneWayRoof(const Row& push, const Row& pull) {
  struct End {
    explicit End(const Row& r)
        : row(r), server(r.load.words("--serve")), worker(WorkerOf(r, server.said())) {}
    double Rate(double seconds) {
      return row.scale * RateOf(seconds, [this] { Once(row, worker); });
    }
    const Row row;
    ChildProcess server;
    Worker worker;
  };
  auto pushing = std::make_shared<End>(push), pulling = std::make_shared<End>(pull);
  const auto better = std::make_shared<std::shared_ptr<End>>();
  return [=](double seconds) {
    if (*better == nullptr) {
      std::vector<double> push_rates, pull_rates;
      for (int trial = 0; trial <= 5; ++trial) {
        const double push_rate = pushing->Rate(seconds), pull_rate = pulling->Rate(seconds);
        if (trial == 0) continue;  // touches all memory
        push_rates.push_back(push_rate);
        pull_rates.push_back(pull_rate);
      }
      *better = Median(push_rates) > Median(pull_rates) ? pushing : pulling;
    }
    return (*better)->Rate(seconds);
  };
}

// The raw TCP server's process. Prints its port.
int ServeRaw(const rpc::Identity& identity) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int listening = ListenTcp("127.0.0.1", 0);
  fmt::print("{}\n", PortOf(listening));
  std::fflush(stdout);
  ServeTcp(listening, identity);
  return 0;
}

// Round trips of 64 bytes while another worker streams 4 MiB slices to the same server; the futex's
// under the same load.
void MeasureBusy(const Options& options, FutexPair& futex, Table& table) {
  constexpr int kBig = 16;
  const Load load = {.shared = true,
                     .params = options.smoke ? 1 : kBig,
                     .elements = (4 << 20) / 4,
                     .replicas = 2,
                     .mode = "ASYNC",
                     .tiny = 16};
  ChildProcess server(load.words("--serve"));
  Worker quick(load, {server.said()}, {0, 1, load.params, 1});
  std::atomic<bool> over = false;
  std::thread streaming([&] {
    Worker bulk(load, {server.said()}, {1, 1, 0, load.params});
    while (!over) bulk.Step(/*pull=*/false);
  });
  Figures p50, p99;
  for (int round = 0; round <= options.rounds; ++round) {
    const auto percentile = [](std::vector<double> times, double share) {
      const auto at = static_cast<std::ptrdiff_t>(share * static_cast<double>(times.size() - 1));
      std::ranges::nth_element(times, times.begin() + at);
      return times[static_cast<size_t>(at)];
    };
    std::vector<double> bare;
    {
      const OnCore core(/*first=*/true);
      bare = TimesOf(options.seconds, kAsleep_us, [&] { futex.RoundTrip(); });
    }
    const std::vector<double> ours =
        TimesOf(options.seconds, kAsleep_us, [&] { quick.Step(/*pull=*/true); });
    if (round == 0) continue;
    p50.Add(percentile(ours, 0.5), percentile(bare, 0.5));
    p99.Add(percentile(ours, 0.99), percentile(bare, 0.99));
  }
  over = true;
  streaming.join();
  table.Print("rtt_64b_busy_p50", "us", "futex", p50, 2, /*is_time=*/true);
  table.Print("rtt_64b_busy_p99", "us", "futex", p99, 10, /*is_time=*/true);
}

// The rows paced_n_k that are wanted.
void MeasurePacedRows(const Options& options, Table& table) {
  const bool all = options.rows.empty() || std::ranges::count(options.rows, "paced") > 0;
  const std::pair<int, int> some[] = {{1, 1}, {2, 2}, {4, 4}, {4, 2}, {2, 4}, {1, 4}, {4, 1}};
  for (int n = 1; n <= 4; ++n) {
    for (int k = 1; k <= 4; ++k) {
      const std::string name = fmt::format("paced_{}_{}", n, k);
      const bool usual =
          options.smoke ? n == 2 && k == 2 : std::ranges::count(some, std::pair(n, k)) > 0;
      if (std::ranges::count(options.rows, name) == 0 && !(all && usual)) continue;
      const absl::StatusOr<Figures> figures =
          MeasurePaced(n, k, (options.smoke ? 2 : options.paced_mib) << 20, options.smoke ? 0.1 : 3,
                       std::min(options.rounds, 3));
      if (figures.ok()) {
        table.Print(name.c_str(), "s", "wire", *figures, 1.10, /*is_time=*/true);
      } else {
        table.PrintSkipped(name.c_str(), std::string(figures.status().message()));
      }
    }
  }
}

// Writes --json and --svg.
int Keep(const Options& options, const Table& table) {
  if (table.all().empty()) {
    fmt::print(stderr, "bench_pushpull: --rows names none that there is\n");
    return 1;
  }
  absl::Status status;
  if (!options.json.empty()) {
    status = WriteFileAtomically(options.json, table.all().dump(1) + "\n");
  }
  if (!options.svg.empty()) status.Update(WriteFileAtomically(options.svg, Chart(table.all())));
  if (!status.ok()) fmt::print(stderr, "bench_pushpull: {}\n", std::string(status.message()));
  return status.ok() ? 0 : 1;
}

// The rows of the folder's other programs.
void MeasureSiblings(const Options& options, Table& table) {
  const auto wanted = [&](std::vector<std::string> names) {
    std::erase_if(names, [&](const std::string& name) {
      return !options.rows.empty() && std::ranges::count(options.rows, name) == 0;
    });
    return names;
  };
  const auto run = [&](const char* program, std::vector<std::string> words,
                       const std::vector<std::string>& rows) {
    if (rows.empty() || options.smoke) return;  // they have smoke runs of their own
    MeasureWithSibling(program, std::move(words), rows, table);
  };
  run("bench_optimizers", {"--optimizer=adam"}, wanted({"adam_64m"}));
  run("bench_codecs", {},
      wanted({"codec_fp16", "codec_bf16", "codec_int8", "codec_1bit", "codec_topk"}));
  run("bench_launch", {"--rows", "loop_tiny_conv", "--data", options.data},
      wanted({"loop_tiny_conv"}));
}

// What the children and this process show each other in a row over TLS.
void MakeIdentity() {
  const auto now_s = static_cast<int64_t>(time(nullptr));
  const rpc::JobAuthority authority = Must(rpc::JobAuthority::Make("bench", now_s, now_s + 86'400));
  setenv(kIdentityVariable, rpc::EncodeIdentity(Must(authority.Issue("bench-0"))).c_str(), 1);
}

int Measure(const Options& options) {
  MakeIdentity();
  ChildProcess raw({"--serve-raw"});
  ChildProcess streams({"--serve-streams"});
  ChildProcess encrypted_raw({"--serve-raw", "--tls=true"});
  ChildProcess encrypted_streams({"--serve-streams", "--tls=true"});
  const auto futex = std::make_shared<FutexPair>();
  ChildProcess futex_server({fmt::format("--serve-futex={}", futex->fd())});
  (void)futex_server.said();
  std::map<std::string, Roof> roofs;
  const std::vector<Row> rows = Rows(options.smoke);
  const auto named = [&](std::string_view name) -> const Row& {
    return *std::ranges::find(rows, name, &Row::name);
  };
  const auto roof = [&](const std::string& name) -> const Roof& {
    if (!roofs.contains(name)) {
      roofs[name] = name == "sum"        ? SumRoof()
                    : name == "one way"  ? OneWayRoof(named("grpc_push_4m"), named("grpc_pull_4m"))
                    : name == "momentum" ? MomentumRoof()
                    : name == "memcpy"   ? MemcpyRoof()
                    : name == "futex"    ? FutexRoof(futex)
                    : name == "stream"   ? StreamRoof(streams.said())
                    : name == "tls"      ? TlsRoof(streams.said())
                    : name == "tls stream" ? StreamRoof(encrypted_streams.said(), IdentityOfBench())
                    : name == "tls tcp"
                        ? TcpRoof(std::stoi(encrypted_raw.said()), IdentityOfBench())
                        : TcpRoof(std::stoi(raw.said()));
    }
    return roofs[name];
  };
  const auto wanted = [&](const char* name) {
    return options.rows.empty() || std::ranges::count(options.rows, name) > 0;
  };
  Table table;
  for (const char* name : {"memcpy", "sum", "momentum", "tcp", "stream", "futex"}) {
    if (!wanted("roofs")) break;
    Figures figures;
    for (int round = 0; round <= std::min(options.rounds, 3); ++round) {
      const double value = roof(name)(options.seconds);
      if (round > 0) figures.Add(value, 1);  // the first touches all memory
    }
    roofs.erase(name);
    table.Print(fmt::format("roof_{}", name).c_str(),
                std::string_view(name) == "futex" ? "us" : "GB/s", "", figures, /*asked=*/0,
                /*is_time=*/false);
  }
  for (const Row& row : rows) {
    if (!wanted(row.name)) continue;
    ChildProcess server(row.load.words("--serve"));
    Worker worker = WorkerOf(row, server.said());
    const std::function<void()> step = [&] { Once(row, worker); };
    const bool is_time = row.scale == 0;
    Figures figures;
    for (int round = 0; round <= options.rounds; ++round) {
      const double top = *row.roof == '\0' ? 1 : roof(row.roof)(options.seconds);
      const double value = is_time ? TimeOf(options.seconds, row.pause_us, step)
                                   : row.scale * RateOf(options.seconds, step);
      if (round > 0) figures.Add(value, top);  // the first touches all memory
    }
    worker.Check();
    table.Print(row.name, row.unit, row.roof, figures, row.asked, is_time);
    const auto again = [&](const Row& later) {
      return &later > &row && wanted(later.name) && std::string_view(later.roof) == row.roof;
    };
    if (std::ranges::none_of(rows, again)) roofs.erase(row.roof);  // gigabytes
  }
  if (wanted("rtt_64b_busy")) MeasureBusy(options, *futex, table);
  if (wanted("idle_cpu")) MeasureIdle(options.smoke ? 0.1 : 3, table);
  for (const bool shared : {true, false}) {
    if (!wanted("rss_soak") && !wanted(SoakName(shared))) continue;
    MeasureSoak(shared, options.smoke ? 0.2 : options.soak, table);
  }
  MeasureSiblings(options, table);
  MeasurePacedRows(options, table);
  return Keep(options, table);
}

int ServeFutex(int fd) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  FutexPair pair(fd);
  fmt::print("ready\n");
  std::fflush(stdout);
  const OnCore core(/*first=*/false);
  pair.Serve();
}

// Has the environment that the launcher gives to roles: glibc reads it before main.
void RunAsARole(char** argv) {
  bool has_it = true;
  for (const auto& [name, value] : rpc::kRoleEnvironment) {
    const char* is = getenv(name);
    if (is == nullptr || std::string_view(is) != value) has_it = false;
    setenv(name, value, 1);
  }
  if (!has_it) execv("/proc/self/exe", argv);
}

int Main(int argc, char** argv) {
  rpc::TuneAllocator();
  Options options;
  Load load;
  bool serve = false, serve_raw = false, serve_streams = false;
  bool paced_switch = false, paced_server = false;
  int paced_worker = -1;
  int serve_futex = -1;
  Custom custom;
  std::string transport = "auto";
  int64_t bytes = 0;
  bool no_fuse = false;
  CLI::App app("Pushing and pulling through a parameter server, beside the machine's roofs.");
  app.add_option("--rows", options.rows, "only these")->delimiter(',');
  app.add_option("--seconds", options.seconds, "of each measurement")->capture_default_str();
  app.add_option("--rounds", options.rounds, "of roof and row")->capture_default_str();
  app.add_option("--json", options.json, "a file for the figures");
  app.add_option("--svg", options.svg, "a file for a picture of them");
  app.add_option("--paced-mib", options.paced_mib, "MiB of a model behind paced links")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_flag("--smoke", options.smoke, "only see whether it works");
  app.add_flag("--serve", serve)->group("");
  app.add_flag("--serve-raw", serve_raw)->group("");
  app.add_flag("--serve-streams", serve_streams)->group("");
  app.add_flag("--paced-switch", paced_switch)->group("");
  app.add_flag("--paced-server", paced_server)->group("");
  app.add_option("--paced-worker", paced_worker)->group("");
  app.add_option("--server", load.server)->group("");
  app.add_option("--listen", load.listen)->group("");
  app.add_option("--soak", options.soak, "seconds of pushes for rss_soak, each way")
      ->capture_default_str();
  app.add_option("--data", options.data, "the speech data of loop_tiny_conv")
      ->capture_default_str();
  std::vector<CLI::Option*> own = {
      app.add_option("--workers", load.replicas, "of a case of your own")
          ->check(CLI::Range(1, 1024)),
      app.add_option("--servers", load.servers)->check(CLI::Range(1, 1024)),
      app.add_option("--keys", load.params, "parameters")->check(CLI::Range(1, 1 << 20)),
      app.add_option("--bytes", bytes, "of each key")->check(CLI::Range(4, 1 << 30)),
      app.add_option("--transport", transport)->check(CLI::IsMember({"auto", "shm", "grpc"})),
      app.add_option("--direction", custom.direction)
          ->check(CLI::IsMember({"push", "pull", "pushpull"})),
      app.add_option("--optimizer", load.optimizer)->check(CLI::IsMember(ps::OptimizerNames())),
      app.add_option("--codec", load.codec, "of the gradients")
          ->check(CLI::IsMember({"none", "fp16", "bf16", "int8", "1bit", "topk"})),
      app.add_flag("--no-fuse", no_fuse, "a message for each key, however small")};
  app.add_option("--mode", load.mode)->group("");
  app.add_option("--tiny", load.tiny)->group("");
  app.add_option("--serve-futex", serve_futex)->group("");
  app.add_option("--fused", load.fused)->group("");
  app.add_option("--shared", load.shared)->group("");
  app.add_option("--params", load.params)->group("");
  app.add_option("--elements", load.elements)->group("");
  app.add_option("--tls", load.tls)->group("");
  app.add_option("--replicas", load.replicas)->group("");
  CLI11_PARSE(app, argc, argv);
  const rpc::Identity identity = load.tls ? IdentityOfBench() : rpc::Identity();
  if (serve_raw) return ServeRaw(identity);
  if (serve_streams) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    ServeStreams(identity);
  }
  if (serve_futex >= 0) return ServeFutex(serve_futex);
  if (serve) Serve(load);
  if (paced_switch) RunPacedSwitch();
  if (paced_server) RunPacedServer(load);
  if (paced_worker >= 0) RunPacedWorker(load, paced_worker);
  if (options.smoke) {
    options.seconds = 0.02;
    options.rounds = 1;
  }
  RunAsARole(argv);
  if (std::ranges::none_of(own, [](const CLI::Option* option) { return option->count() > 0; })) {
    return Measure(options);
  }
  load.shared = transport != "grpc";
  load.fused = !no_fuse;
  load.elements = std::max<int64_t>(1, bytes / static_cast<int64_t>(sizeof(float)));
  custom.load = load;
  Table table;
  MeasureCustom(custom, options.seconds, options.rounds, table);
  return Keep(options, table);
}

}  // namespace
}  // namespace muster

int main(int argc, char** argv) { return muster::Main(argc, argv); }
