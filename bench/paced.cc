#include "bench/paced.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "bench/child_process.h"
#include "bench/load_worker.h"
#include "bench/paced_network.h"
#include "bench/raw_tcp.h"

namespace muster::bench {
namespace {

constexpr int kRawPort = 5001;  // each process has all ports of its network
constexpr int64_t kSlice = 1 << 20;

// What the processes say to the one that started them: "ok", "ok WORD", or why not.
void Say(const std::string& line) { std::cout << line << std::endl; }

// Ends without a word to a user: MeasurePaced tells.
void SayOrEnd(const absl::Status& status) {
  Say(status.ok() ? "ok" : std::string(status.message()));
  if (!status.ok()) std::exit(1);
}

std::string NextOrder() {
  std::string line;
  if (!std::getline(std::cin, line)) std::exit(0);
  return line;
}

absl::Status Expect(ChildProcess& child, const std::string& answer) {
  const std::string line = child.Hear();
  if (line == answer) return absl::OkStatus();
  return absl::FailedPreconditionError(line.empty() ? "a process ended" : line);
}

// Takes part in the network, once that is there.
void Join() {
  SayOrEnd(EnterOwnNetwork());
  SayOrEnd(JoinNetwork(std::stoi(NextOrder())));
}

}  // namespace

void RunPacedSwitch() {
  SayOrEnd(EnterOwnNetwork());
  std::istringstream order(NextOrder());
  std::vector<pid_t> ends;
  for (pid_t pid = 0; order >> pid;) ends.push_back(pid);
  SayOrEnd(ConnectToSwitch(ends));
  for (;;) pause();
}

void RunPacedServer(const Load& load) {
  Join();
  std::thread raw([] { ServeTcp(ListenTcp("0.0.0.0", kRawPort)); });
  Serve(load);
}

void RunPacedWorker(const Load& load, int replica) {
  Join();
  std::unique_ptr<Worker> worker;
  for (;;) {
    std::istringstream order(NextOrder());
    std::string verb;
    order >> verb;
    if (verb == "raw") {
      double seconds = 0;
      std::string address;
      order >> seconds >> address;
      Pool pool;
      Say(fmt::format("{}", TcpPusher(address, kRawPort).Run(kSlice, 4, seconds, pool) * kSlice));
    } else if (verb == "connect") {
      std::vector<std::string> servers;
      for (std::string address; order >> address;) servers.push_back(address);
      worker = std::make_unique<Worker>(load, servers, Part{replica, 1, 0, load.params});
      Say("ok");
    } else {
      worker->Step(/*pull=*/true);
      Say("ok");
      worker->CheckArena();
    }
  }
}

absl::StatusOr<Figures> MeasurePaced(int workers, int servers, int64_t bytes, double tcp_seconds,
                                     int rounds) {
  Load load = {.params = static_cast<int>(bytes / kSlice),
               .elements = kSlice / static_cast<int64_t>(sizeof(float)),
               .replicas = workers,
               .servers = servers};
  ChildProcess network({"--paced-switch"});
  RETURN_IF_ERROR(Expect(network, "ok"));
  std::vector<std::unique_ptr<ChildProcess>> ends;
  for (int i = 0; i < servers; ++i) {
    load.server = i;
    load.listen = PacedAddress(i);
    ends.push_back(std::make_unique<ChildProcess>(load.words("--paced-server")));
  }
  for (int i = 0; i < workers; ++i) {
    ends.push_back(std::make_unique<ChildProcess>(load.words(fmt::format("--paced-worker={}", i))));
  }
  std::string pids;
  for (const auto& end : ends) {
    RETURN_IF_ERROR(Expect(*end, "ok"));
    pids += fmt::format("{} ", end->pid());
  }
  network.Say(pids);
  RETURN_IF_ERROR(Expect(network, "ok"));
  for (size_t i = 0; i < ends.size(); ++i) ends[i]->Say(std::to_string(i));
  for (const auto& end : ends) RETURN_IF_ERROR(Expect(*end, "ok"));

  std::string addresses;
  for (int i = 0; i < servers; ++i) addresses += ends[static_cast<size_t>(i)]->Hear() + " ";
  const std::span all_workers = std::span(ends).subspan(static_cast<size_t>(servers));
  ChildProcess& first = *all_workers.front();
  first.Say(fmt::format("raw {} {}", tcp_seconds, PacedAddress(0)));
  const double goodput = std::stod(first.Hear());
  const auto all = [&](const std::string& order) {
    for (const auto& worker : all_workers) worker->Say(order);
    for (const auto& worker : all_workers) RETURN_IF_ERROR(Expect(*worker, "ok"));
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(all("connect " + addresses));
  const double bound =
      static_cast<double>(bytes) / goodput * std::max(1.0, 1.0 * workers / servers);
  Figures figures;
  for (int round = 0; round < rounds; ++round) {
    const double begin = Now();
    RETURN_IF_ERROR(all("step"));
    figures.Add(Now() - begin, bound);
  }
  return figures;
}

}  // namespace muster::bench
