#include "bench/custom.h"

#include <barrier>
#include <memory>
#include <thread>
#include <vector>

#include "bench/child_process.h"
#include "bench/load_worker.h"
#include "bench/raw_tcp.h"

namespace muster::bench {

void MeasureCustom(const Custom& custom, double seconds, int rounds, Table& table) {
  std::vector<std::unique_ptr<ChildProcess>> servers;
  std::vector<std::string> addresses;
  for (int i = 0; i < custom.load.servers; ++i) {
    Load load = custom.load;
    load.server = i;
    servers.push_back(std::make_unique<ChildProcess>(load.words("--serve")));
    addresses.push_back(servers.back()->said());
  }
  const int count = custom.load.replicas;
  const bool push = custom.direction != "pull", pull = custom.direction != "push";
  std::vector<std::unique_ptr<Worker>> workers;
  for (int v = 0; v < count; ++v) {
    workers.push_back(
        std::make_unique<Worker>(custom.load, addresses, Part{v, 1, 0, custom.load.params}));
  }
  // Steps of all workers until the time is over, which one of them finds; seconds per step.
  const auto measure = [&] {
    bool over = false;
    int64_t steps = 0;
    const double begin = Now();
    std::barrier together(count, [&]() noexcept {
      ++steps;
      over = Now() - begin >= seconds;
    });
    std::vector<std::jthread> threads;
    for (int v = 0; v < count; ++v) {
      threads.emplace_back([&, v] {
        while (!over) {
          if (push) {
            workers[static_cast<size_t>(v)]->Step(pull);
          } else {
            workers[static_cast<size_t>(v)]->Pull();
          }
          together.arrive_and_wait();
        }
      });
    }
    threads.clear();
    return (Now() - begin) / static_cast<double>(steps);
  };
  const double ways = push && pull ? 2 : 1;
  const double gb = ways * count * static_cast<double>(custom.load.bytes()) / 1e9;
  Figures bytes, keys;
  for (int round = 0; round <= rounds; ++round) {
    const double step = measure();
    if (round == 0) continue;  // the first touches all memory
    bytes.Add(gb / step, 1);
    keys.Add(count * static_cast<double>(custom.load.params) / 1e6 / step, 1);
  }
  for (const auto& worker : workers) worker->Check();
  table.Print("custom", "GB/s", "", bytes, 0, /*is_time=*/false);
  table.Print("custom_keys", "M keys/s", "", keys, 0, /*is_time=*/false);
}

}  // namespace muster::bench
