// What pushing and pulling through a parameter server costs: a real server process and a real
// worker process on this machine, beside the roofs taken in the same run.
//
//   bench_pushpull [--rows NAME,...] [--seconds S] [--rounds N] [--json FILE] [--smoke]
//   bench_pushpull --soak SECONDS    the server's resident memory under pushes as fast as they go
//
// Roofs (one thread, working sets of 256 MiB and more, which no cache holds):
//
//   sum       GB/s of gradients into `dst += src`
//   momentum  GB/s of gradients into a Momentum update in one pass over memory
//   tcp       GB/s of gradients over one loopback TCP connection, summed in 128 KiB chunks
//   stream    GB/s of gradients over one bare gRPC stream, summed from the received slices
//   futex     µs of a bare futex round trip between processes on two cores, both asleep
//
// Rows, each with its ratio to a roof; rounds of roof and row are interleaved, what counts is the
// median of the ratios. Every row ends with a look at the parameters: the servers must have counted
// every gradient exactly once.
//
// The server is this program again, started with --serve.
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
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

#include "bench/raw_futex.h"
#include "bench/raw_stream.h"
#include "bench/raw_tcp.h"
#include "bench/timing.h"
#include "kernels/optimizer_math.h"
#include "ps/client.h"
#include "ps/server.h"
#include "rpc/allocator.h"
#include "rpc/grpc_transport.h"
#include "rpc/shared_transport.h"
#include "telemetry/check.h"
#include "telemetry/file.h"

namespace muster {
namespace {

using namespace bench;

constexpr float kRate = 1.0F / 1024;  // learning rate: sums of small integers times it are exact

template <typename T>
T Must(absl::StatusOr<T> value) {
  if (!value.ok()) {
    fmt::print(stderr, "bench_pushpull: {}\n", std::string(value.status().message()));
    std::exit(1);
  }
  return *std::move(value);
}

// A model and how it is served.
struct Load {
  bool shared = false;  // else over the wire
  int params = 1;
  int64_t elements = 1;  // of one parameter
  int replicas = 1;      // all of them leases of the one worker
  std::string optimizer = "sgd";
  bool fused = true;  // small parameters, into bundles
  std::string mode = "BSP";
  int64_t tiny = 0;  // elements of one more parameter, the last

  int64_t bytes() const { return params * elements * static_cast<int64_t>(sizeof(float)); }
  std::vector<std::string> words() const {
    return {"--serve",
            fmt::format("--shared={}", shared),
            fmt::format("--params={}", params),
            fmt::format("--elements={}", elements),
            fmt::format("--replicas={}", replicas),
            fmt::format("--optimizer={}", optimizer),
            fmt::format("--fused={}", fused),
            fmt::format("--mode={}", mode),
            fmt::format("--tiny={}", tiny)};
  }
};

ps::ParamTable TableOf(const Load& load) {
  std::vector<ps::ParamSpec> specs(load.params);
  for (int i = 0; i < load.params; ++i) {
    specs[i].name = fmt::format("p{}", i);
    specs[i].shape = {load.elements};
  }
  if (load.tiny > 0) specs.push_back({.name = "tiny", .shape = {load.tiny}});
  return Must(ps::ParamTable::Make(specs));
}

ps::Partition PartitionOf(const Load& load, const ps::ParamTable& table) {
  if (load.fused) return ps::MakePartition(table, 1);
  ps::Partition out;
  out.num_servers = 1;
  for (int i = 0; i < load.params; ++i) {
    out.slices.push_back({i, 0, load.elements});
    out.server.push_back(0);
    out.of_param.push_back({i});
  }
  return out;
}

std::unique_ptr<rpc::Transport> TransportOf(const Load& load, Log& log) {
  auto grpc = Must(rpc::MakeGrpcTransport({}, log));
  if (!load.shared) return grpc;
  return Must(rpc::MakeSharedTransport(std::move(grpc), log));
}

rpc::Hello HelloOf(const char* role) {
  return {rpc::kProtocolVersion, "bench", "bench", "params", role, 0};
}

// Prints its address and serves until the parent is gone.
int Serve(const Load& load) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const auto log = Log::Discard();
  const auto transport = TransportOf(load, *log);
  const ps::ParamTable table = TableOf(load);
  const ps::Partition partition = PartitionOf(load, table);
  const auto policy = Must(ps::MakeConsistencyPolicy(load.mode, 0));
  const auto optimizer = Must(ps::MakeOptimizer(load.optimizer, {}));
  ps::ServerOptions options;
  options.num_replicas = load.replicas;
  options.allocate = [&](size_t size) { return transport->Allocate(size); };
  const auto server = ps::Server::Make(
      table, partition, *policy, *optimizer, [](int64_t) { return kRate; }, options, {}, *log);
  CHECK(server->Initialize().ok());
  const auto listener = Must(transport->Listen("127.0.0.1:0", HelloOf("ps"), server->acceptor()));
  fmt::print("{}\n", listener->address());
  std::fflush(stdout);
  for (;;) pause();
}

// This program again, with `words`; killed with the object.
class ChildProcess {
 public:
  explicit ChildProcess(std::vector<std::string> words) {
    int out[2];
    CHECK_EQ(pipe2(out, O_CLOEXEC), 0);
    words.insert(words.begin(), "bench_pushpull");
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    CHECK_EQ(posix_spawn(&pid_, "/proc/self/exe", &actions, nullptr, argv.data(), environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    char word[64] = {};
    std::FILE* said = fdopen(out[0], "r");
    CHECK_EQ(std::fscanf(said, "%63s", word), 1);
    std::fclose(said);
    said_ = word;
  }
  ~ChildProcess() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  // Its first word: where it listens.
  const std::string& said() const { return said_; }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = 0;
  std::string said_;
};

// Whose gradients a Worker pushes, and of which parameters.
struct Part {
  int first_replica = 0, replicas = 1;
  ps::ParamId first_param = 0, params = 1;
};

// A worker: pushes the same small integers in every step, a different one for each replica.
class Worker {
 public:
  Worker(const Load& load, const std::string& server)
      : Worker(load, server, {0, load.replicas, 0, load.params}) {}
  Worker(const Load& load, const std::string& server, Part part)
      : load_(load),
        part_(part),
        transport_(TransportOf(load, *log_)),
        table_(TableOf(load)),
        partition_(PartitionOf(load, table_)),
        arena_(table_.arena_size()),
        client_(Must(ps::Client::Connect(*transport_, {server}, HelloOf("worker"), table_,
                                         partition_, {}, *log_))) {
    client_->SetArena(arena_);
    for (int v = 0; v < part.replicas; ++v) {
      grads_.push_back(client_->AllocateGradients());
      std::fill_n(grads_.back().get(), table_.arena_size(), static_cast<float>(v + 1));
    }
    Pull();
  }

  // One step of all replicas; with `pull` the parameters come back.
  void Step(bool pull) {
    for (int v = 0; v < part_.replicas; ++v) {
      const bool want = pull && v + 1 == part_.replicas;
      for (ps::ParamId p = part_.first_param; p < part_.first_param + part_.params; ++p) {
        client_->Push(
            part_.first_replica + v, step_, p,
            {grads_[v].get() + table_.offset(p), static_cast<size_t>(table_.specs()[p].size())}, p,
            want);
      }
      client_->Flush();
    }
    ++step_;
    Wait();
  }
  void Pull() {
    client_->Pull(part_.first_replica, step_, -1);
    Wait();
  }
  // Every gradient was counted once (SGD): w = -kRate * steps * mean of 1 … V.
  void Check() {
    Pull();
    if (load_.optimizer != "sgd") return;
    const float expected =
        -kRate * static_cast<float>(step_) * static_cast<float>(load_.replicas + 1) / 2;
    for (ps::ParamId p = 0; p < load_.params; ++p) {
      for (int64_t i = 0; i < load_.elements; ++i) {
        CHECK_EQ(arena_[table_.offset(p) + i], expected);
      }
    }
  }

 private:
  void Wait() {
    if (const absl::Status status = client_->Wait(step_); !status.ok()) {
      fmt::print(stderr, "bench_pushpull: {}\n", std::string(status.message()));
      std::exit(1);
    }
  }

  const Load load_;
  const Part part_;
  const std::unique_ptr<Log> log_ = Log::Discard();
  const std::unique_ptr<rpc::Transport> transport_;
  const ps::ParamTable table_;
  const ps::Partition partition_;
  std::vector<float> arena_;
  std::vector<std::shared_ptr<float[]>> grads_;
  const std::unique_ptr<ps::Client> client_;  // destroyed first: it borrows all of the above
  int64_t step_ = 0;
};

// Calls `once` for about `seconds`; its rate per second.
double RateOf(double seconds, const std::function<void()>& once) {
  int64_t n = 0;
  const double begin = Now();
  do {
    once();
    ++n;
  } while (Now() - begin < seconds);
  return static_cast<double>(n) / (Now() - begin);
}

// Calls `once` for about `seconds`, `pause_us` after the last call's end; what each takes in µs.
std::vector<double> TimesOf(double seconds, int pause_us, const std::function<void()>& once) {
  std::vector<double> times;
  const double begin = Now();
  do {
    if (pause_us > 0) usleep(static_cast<useconds_t>(pause_us));
    times.push_back(Seconds(once) * 1e6);
  } while (Now() - begin < seconds);
  return times;
}
double TimeOf(double seconds, int pause_us, const std::function<void()>& once) {
  return Median(TimesOf(seconds, pause_us, once));
}

using Roof = std::function<double(double seconds)>;

constexpr int kAsleep_us = 1000;  // long after it both ends sleep

constexpr int64_t kRoofElements = (256 << 20) / 4;

// GB/s of gradients.
Roof SumRoof() {
  auto dst = std::make_shared<std::vector<float>>(kRoofElements, 1.0F);
  auto src = std::make_shared<std::vector<float>>(kRoofElements, 2.0F);
  return [=](double seconds) {
    return RateOf(seconds, [&] { CHECK(AddInto(dst->data(), src->data(), kRoofElements)); }) *
           kRoofElements * sizeof(float) / 1e9;
  };
}

struct MomentumArrays {
  std::vector<float> g = std::vector<float>(kRoofElements, 1.0F);
  std::vector<float> w = g, next = g, slot = g;
};

Roof MomentumRoof() {
  auto arrays = std::make_shared<MomentumArrays>();
  std::shared_ptr<const ps::Optimizer> optimizer = Must(ps::MakeOptimizer("momentum", {}));
  return [=](double seconds) {
    ps::StepInfo info;
    info.learning_rate = kRate;
    info.scale = 1;
    auto& [g, w, next, slot] = *arrays;
    const auto update = [&] {
      for (int64_t at = 0; at < kRoofElements; at += kQuantum) {
        const std::span<float> slots[] = {std::span(slot).subspan(at, kQuantum)};
        optimizer->Apply(info, std::span(g).subspan(at, kQuantum),
                         std::span(w).subspan(at, kQuantum), std::span(next).subspan(at, kQuantum),
                         slots);
      }
      std::swap(w, next);
    };
    return RateOf(seconds, update) * kRoofElements * sizeof(float) / 1e9;
  };
}

// Over a connection to a process of its own.
Roof TcpRoof(int port) {
  auto pusher = std::make_shared<TcpPusher>(port);
  auto pool = std::make_shared<Pool>();
  return [=](double seconds) {
    constexpr size_t kSlice = 4 << 20;
    return pusher->Run(kSlice, /*window=*/4, seconds, *pool) * kSlice / 1e9;
  };
}

Roof StreamRoof(const std::string& address) {
  auto pusher = std::make_shared<StreamPusher>(address);
  auto pool = std::make_shared<Pool>();
  return [=](double seconds) {
    constexpr size_t kSlice = 4 << 20;
    return pusher->Run(kSlice, /*window=*/4, seconds, *pool) * kSlice / 1e9;
  };
}

// Both ends asleep before each round trip.
Roof FutexRoof(const std::shared_ptr<FutexPair>& pair) {
  return [=](double seconds) {
    const OnCore core(/*first=*/true);
    return TimeOf(seconds, kAsleep_us, [&] { pair->RoundTrip(); });
  };
}

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

std::vector<Row> Rows(bool smoke) {
  const int big = smoke ? 2 : 64;  // of 4 MiB: 256 MiB
  constexpr int64_t k4MiB = (4 << 20) / 4;
  const double gb = static_cast<double>(big) * (4 << 20) / 1e9;
  // Eight replicas of 64 MiB each: one copy, six additions, one addition with the update.
  const Load sum = {.params = std::max(1, big / 4), .elements = k4MiB, .replicas = 8};
  const Load one = {.params = big, .elements = k4MiB};
  const Load small = {.params = 400, .elements = 256};
  const Load unfused = {.params = 400, .elements = 256, .fused = false};
  const Load tiny = {.elements = 16};
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
      {"grpc_pushpull_4m", "GB/s", "tcp", 0, one, true, true, 2 * gb},
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
  std::string json;
  bool smoke = false;
};

// The raw TCP server's process. Prints its port.
int ServeRaw() {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  int port = 0;
  const int listening = ListenTcp(&port);
  fmt::print("{}\n", port);
  std::fflush(stdout);
  ServeTcp(listening);
  return 0;
}

// A row's rounds.
struct Figures {
  std::vector<double> values, tops, ratios;
  void Add(double value, double top) {
    values.push_back(value);
    tops.push_back(top);
    ratios.push_back(value / top);
  }
};

// Prints rows, and keeps them for --json.
class Table {
 public:
  Table() {
    fmt::print("{:<26} {:>9} {:<9} {:>9} {:>7}  {:<14} asked\n", "row", "value", "unit", "roof",
               "ratio", "[least, most]");
  }
  // `asked` 0: nothing is.
  void Print(const char* name, const char* unit, const char* roof, const Figures& figures,
             double asked, bool is_time) {
    const auto [least, most] = std::ranges::minmax_element(figures.ratios);
    const bool has_roof = *roof != '\0';
    const double value = Median(figures.values), top = Median(figures.tops),
                 ratio = Median(figures.ratios);
    fmt::print(
        "{:<26} {:>9.3f} {:<9} {:>9} {:>7}  {:<14} {}\n", name, value, unit,
        has_roof ? fmt::format("{:.2f}", top) : "", has_roof ? fmt::format("{:.2f}", ratio) : "",
        has_roof ? fmt::format("[{:.2f}, {:.2f}]", *least, *most) : "",
        asked == 0
            ? ""
            : fmt::format("{} {}{}{}", is_time ? "<=" : ">=", asked, has_roof ? " of " : "", roof));
    std::fflush(stdout);
    all_.push_back({{"name", name},
                    {"value", value},
                    {"unit", unit},
                    {"roof", has_roof ? nlohmann::json(top) : nlohmann::json()},
                    {"ratio", has_roof ? nlohmann::json(ratio) : nlohmann::json()},
                    {"asked", asked}});
  }
  const nlohmann::json& all() const { return all_; }

 private:
  nlohmann::json all_ = nlohmann::json::array();
};

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
  const ChildProcess server(load.words());
  Worker quick(load, server.said(), {0, 1, load.params, 1});
  std::atomic<bool> over = false;
  std::thread streaming([&] {
    Worker bulk(load, server.said(), {1, 1, 0, load.params});
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

int Measure(const Options& options) {
  const ChildProcess raw({"--serve-raw"});
  const ChildProcess streams({"--serve-streams"});
  const auto futex = std::make_shared<FutexPair>();
  const ChildProcess futex_server({fmt::format("--serve-futex={}", futex->fd())});
  std::map<std::string, Roof> roofs;
  const auto roof = [&](const std::string& name) -> const Roof& {
    if (!roofs.contains(name)) {
      roofs[name] = name == "sum"        ? SumRoof()
                    : name == "momentum" ? MomentumRoof()
                    : name == "futex"    ? FutexRoof(futex)
                    : name == "stream"   ? StreamRoof(streams.said())
                                         : TcpRoof(std::stoi(raw.said()));
    }
    return roofs[name];
  };
  const auto wanted = [&](const char* name) {
    return options.rows.empty() || std::ranges::count(options.rows, name) > 0;
  };
  Table table;
  for (const Row& row : Rows(options.smoke)) {
    if (!wanted(row.name)) continue;
    const ChildProcess server(row.load.words());
    Worker worker(row.load, server.said());
    const std::function<void()> step = [&] {
      if (row.push) {
        worker.Step(row.pull);
      } else {
        worker.Pull();
      }
    };
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
  }
  if (wanted("rtt_64b_busy")) MeasureBusy(options, *futex, table);
  if (options.json.empty()) return 0;
  const absl::Status status = WriteFileAtomically(options.json, table.all().dump(1) + "\n");
  if (!status.ok()) fmt::print(stderr, "bench_pushpull: {}\n", std::string(status.message()));
  return status.ok() ? 0 : 1;
}

// Resident bytes of a process.
int64_t ResidentBytes(pid_t pid) {
  std::FILE* statm = std::fopen(fmt::format("/proc/{}/statm", pid).c_str(), "re");
  CHECK(statm != nullptr);
  long all = 0, resident = 0;
  CHECK_EQ(std::fscanf(statm, "%ld %ld", &all, &resident), 2);
  std::fclose(statm);
  return int64_t{resident} * sysconf(_SC_PAGESIZE);
}

// Four replicas push as fast as their credit lets them, in shared memory and over gRPC; the
// server's memory after a tenth of the time, and its extremes from then on.
int Soak(double seconds) {
  for (const bool shared : {true, false}) {
    const Load load = {.shared = shared, .params = 16, .elements = (4 << 20) / 4, .replicas = 4};
    const ChildProcess server(load.words());
    Worker worker(load, server.said());
    int64_t early = 0, least = 0, most = 0, steps = 0;
    const double begin = Now();
    while (Now() - begin < seconds) {
      worker.Step(/*pull=*/false);
      ++steps;
      if (Now() - begin < seconds / 10) continue;
      const int64_t now = ResidentBytes(server.pid());
      if (early == 0) early = least = most = now;
      least = std::min(least, now);
      most = std::max(most, now);
    }
    worker.Check();
    fmt::print(
        "rss_soak {:<5} {:.0f} s, {} steps: {:.1f} MB after a tenth, then {:.1f} to {:.1f} MB "
        "({:+.2f} %); asked: within 1 %\n",
        shared ? "shm" : "grpc", seconds, steps, static_cast<double>(early) / 1e6,
        static_cast<double>(least) / 1e6, static_cast<double>(most) / 1e6,
        100 * static_cast<double>(most - early) / static_cast<double>(early));
    std::fflush(stdout);
  }
  return 0;
}

int ServeFutex(int fd) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  FutexPair pair(fd);
  fmt::print("ready\n");
  std::fflush(stdout);
  const OnCore core(/*first=*/false);
  pair.Serve();
}

int Main(int argc, char** argv) {
  rpc::TuneAllocator();
  Options options;
  Load load;
  bool serve = false, serve_raw = false, serve_streams = false;
  int serve_futex = -1;
  double soak = 0;
  CLI::App app("Pushing and pulling through a parameter server, beside the machine's roofs.");
  app.add_option("--rows", options.rows, "only these")->delimiter(',');
  app.add_option("--seconds", options.seconds, "of each measurement")->capture_default_str();
  app.add_option("--rounds", options.rounds, "of roof and row")->capture_default_str();
  app.add_option("--json", options.json, "a file for the figures");
  app.add_flag("--smoke", options.smoke, "only see whether it works");
  app.add_flag("--serve", serve)->group("");
  app.add_flag("--serve-raw", serve_raw)->group("");
  app.add_flag("--serve-streams", serve_streams)->group("");
  app.add_option("--soak", soak, "seconds of pushes; only looks at the server's memory");
  app.add_option("--mode", load.mode)->group("");
  app.add_option("--tiny", load.tiny)->group("");
  app.add_option("--serve-futex", serve_futex)->group("");
  app.add_option("--fused", load.fused)->group("");
  app.add_option("--shared", load.shared)->group("");
  app.add_option("--params", load.params)->group("");
  app.add_option("--elements", load.elements)->group("");
  app.add_option("--replicas", load.replicas)->group("");
  app.add_option("--optimizer", load.optimizer)->group("");
  CLI11_PARSE(app, argc, argv);
  if (serve_raw) return ServeRaw();
  if (serve_streams) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    ServeStreams();
  }
  if (serve_futex >= 0) return ServeFutex(serve_futex);
  if (serve) return Serve(load);
  if (options.smoke) {
    options.seconds = 0.02;
    options.rounds = 1;
  }
  // As the launcher sets it for the roles: for the children, and for gRPC in here.
  setenv("GRPC_POLL_STRATEGY", "poll", 1);
  return soak > 0 ? Soak(soak) : Measure(options);
}

}  // namespace
}  // namespace muster

int main(int argc, char** argv) { return muster::Main(argc, argv); }
