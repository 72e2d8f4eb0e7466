// Fits y = 3x + 1, each replica on points of its own: docs/client.md.
//
//   MUSTER_JOB_TOKEN=… client_example REPLICA REPLICAS SERVER…
#include <cstdio>
#include <cstdlib>

#include "ps/client.h"

using namespace muster;

absl::Status Train(int replica, int replicas, const std::vector<std::string>& servers) {
  ASSIGN_OR_RETURN(const ps::ParamTable table,
                   ps::ParamTable::Make({{.name = "line", .shape = {2}}}));
  ps::SessionOptions options{.servers = servers, .num_replicas = replicas, .index = replica};
  if (const char* token = std::getenv("MUSTER_JOB_TOKEN")) options.token = token;
  ASSIGN_OR_RETURN(const ps::Session session, ps::Session::Open(table, options));
  ps::Client& client = *session.client;

  std::vector<float> weights(table.arena_size()), gradient(2);
  client.SetArena(weights);
  ASSIGN_OR_RETURN(int64_t step, client.Clock(replica));  // not 0 after an interruption
  client.Pull(replica, step, /*version=*/-1);
  RETURN_IF_ERROR(client.Wait(step));
  for (step = client.reached(); step < 1000; step = client.reached()) {
    const float x = static_cast<float>((step * 7 + replica * 3) % 10) / 10;
    const float error = weights[0] * x + weights[1] - (3 * x + 1);
    gradient = {error * x, error};
    client.Push(replica, step, /*param=*/0, gradient, /*priority=*/0, /*want_params=*/true);
    RETURN_IF_ERROR(client.Wait(step + 1));
    if (step % 100 == 0) std::printf("step %d\n", static_cast<int>(step)), std::fflush(stdout);
  }
  std::printf("y = %.4f x + %.4f\n", weights[0], weights[1]);
  return absl::OkStatus();
}

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  absl::Status status;
  for (int attempt = 0; attempt < 3; ++attempt) {
    status = Train(std::atoi(argv[1]), std::atoi(argv[2]), {argv + 3, argv + argc});
    if (!absl::IsUnavailable(status)) break;  // a lost connection: on with the same step
  }
  if (!status.ok()) std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  return status.ok() ? 0 : 1;
}
