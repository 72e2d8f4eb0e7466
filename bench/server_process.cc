#include "bench/server_process.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "bench/child_process.h"
#include "bench/load.h"
#include "bench/load_worker.h"
#include "bench/raw_tcp.h"
#include "telemetry/check.h"

namespace muster::bench {
namespace {

int64_t ResidentBytes(pid_t pid) {
  std::FILE* statm = std::fopen(fmt::format("/proc/{}/statm", pid).c_str(), "re");
  CHECK(statm != nullptr);
  long all = 0, resident = 0;
  CHECK_EQ(std::fscanf(statm, "%ld %ld", &all, &resident), 2);
  std::fclose(statm);
  return int64_t{resident} * sysconf(_SC_PAGESIZE);
}

// Of all its threads, since its start.
double ProcessorSeconds(pid_t pid) {
  std::FILE* stat = std::fopen(fmt::format("/proc/{}/stat", pid).c_str(), "re");
  CHECK(stat != nullptr);
  unsigned long user = 0, system = 0;
  CHECK_EQ(std::fscanf(stat, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
                       &user, &system),
           2);
  std::fclose(stat);
  return static_cast<double>(user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

}  // namespace

const char* SoakName(bool shared) { return shared ? "rss_soak_shm" : "rss_soak_grpc"; }

void MeasureSoak(bool shared, double seconds, Table& table) {
  const Load load = {.shared = shared, .params = 16, .elements = (4 << 20) / 4, .replicas = 4};
  ChildProcess server(load.words("--serve"));
  Worker worker(load, server.said());
  int64_t early = 0, most = 0;
  const double begin = Now();
  while (Now() - begin < seconds) {
    worker.Step(/*pull=*/false);
    if (Now() - begin < seconds / 10) continue;
    const int64_t now = ResidentBytes(server.pid());
    if (early == 0) early = now;
    most = std::max(most, now);
  }
  worker.Check();
  Figures growth;
  growth.Add(100 * static_cast<double>(most - early) / static_cast<double>(early), 1);
  table.Print(SoakName(shared), "%", "", growth, 1, /*is_time=*/true);
}

void MeasureIdle(double seconds, Table& table) {
  const Load load = {.shared = true, .elements = 16};
  ChildProcess server(load.words("--serve"));
  Worker worker(load, server.said());
  for (int i = 0; i < 100; ++i) worker.Step(/*pull=*/true);
  usleep(100'000);
  const auto both = [&] { return ProcessorSeconds(server.pid()) + ProcessorSeconds(getpid()); };
  const double before = both();
  usleep(static_cast<useconds_t>(seconds * 1e6));
  Figures percent;
  percent.Add(100 * (both() - before) / seconds, 1);
  table.Print("idle_cpu", "%", "", percent, 1, /*is_time=*/true);
}

}  // namespace muster::bench
