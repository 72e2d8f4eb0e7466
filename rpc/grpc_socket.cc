#include "rpc/grpc_socket.h"

#include <absl/strings/numbers.h>
#include <fmt/format.h>
#include <grpcpp/version_info.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <random>

// gRPC applies a "socket mutator" to each socket, and its library exports all that makes one, but
// the struct is declared in no installed header. It has been this since 1.38; we have it for the
// versions that were looked at.
#if GRPC_CPP_VERSION_MAJOR == 1 && GRPC_CPP_VERSION_MINOR >= 38 && GRPC_CPP_VERSION_MINOR <= 51
#define MUSTER_SOCKET_MUTATOR 1
#endif

#ifdef MUSTER_SOCKET_MUTATOR
struct grpc_socket_mutator_vtable {
  bool (*mutate_fd)(int fd, grpc_socket_mutator* mutator);
  int (*compare)(grpc_socket_mutator* a, grpc_socket_mutator* b);
  void (*destroy)(grpc_socket_mutator* mutator);
  bool (*mutate_fd_2)(const void* info, grpc_socket_mutator* mutator);
};
struct grpc_socket_mutator {
  const grpc_socket_mutator_vtable* vtable;
  intptr_t references;
};
void grpc_socket_mutator_init(grpc_socket_mutator* mutator,
                              const grpc_socket_mutator_vtable* vtable);
#endif

namespace muster::rpc {

bool IsLoopback(const std::string& address) {
  return address.starts_with("127.") || address.starts_with("localhost:") ||
         address.starts_with("[::1]:");
}

absl::StatusOr<std::vector<std::string>> PortsOf(const std::string& address) {
  const size_t colon = address.rfind(':'), dash = address.find('-', colon + 1);
  if (colon == std::string::npos || dash == std::string::npos) return std::vector{address};
  int first = 0, last = 0;
  if (!absl::SimpleAtoi(address.substr(colon + 1, dash - colon - 1), &first) ||
      !absl::SimpleAtoi(address.substr(dash + 1), &last) || first < 1 || last < first ||
      last > 65'535) {
    return absl::InvalidArgumentError(
        fmt::format("cannot listen on '{}': write host:first-last", address));
  }
  std::vector<std::string> addresses;
  for (int port = first; port <= last; ++port) {
    addresses.push_back(fmt::format("{}:{}", address.substr(0, colon), port));
  }
  std::random_device random;
  std::ranges::rotate(addresses,
                      addresses.begin() + static_cast<std::ptrdiff_t>(random() % addresses.size()));
  return addresses;
}

absl::Status CheckListenable(const std::string& address) {
  const size_t colon = address.rfind(':');
  std::string host = address.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  const std::string port = colon == std::string::npos ? "" : address.substr(colon + 1);
  if (host.empty() || port.empty() || port.size() > 5 ||
      port.find_first_not_of("0123456789") != std::string::npos || std::stoi(port) > 65535) {
    return absl::InvalidArgumentError(fmt::format(
        "cannot listen on '{}': write host:port, port 0 to let the system choose", address));
  }
  const addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(host.c_str(), port.c_str(), &hints, &found); error != 0) {
    return absl::InvalidArgumentError(
        fmt::format("cannot listen on {}: {}", address, gai_strerror(error)));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owned(found, &freeaddrinfo);
  const int fd = socket(found->ai_family, found->ai_socktype | SOCK_CLOEXEC, found->ai_protocol);
  const int one = 1;
  const bool bound = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
                     bind(fd, found->ai_addr, found->ai_addrlen) == 0;
  const int error = errno;
  if (fd >= 0) close(fd);
  if (bound) return absl::OkStatus();
  return absl::UnavailableError(fmt::format("cannot listen on {}: {}", address, strerror(error)));
}

#ifdef MUSTER_SOCKET_MUTATOR
namespace {

struct CongestionMutator {
  grpc_socket_mutator base;  // first, so that gRPC's pointer is ours
  std::string algorithm;
};

CongestionMutator* Ours(grpc_socket_mutator* mutator) {
  return reinterpret_cast<CongestionMutator*>(mutator);
}

constexpr grpc_socket_mutator_vtable kVtable = {
    .mutate_fd =
        [](int fd, grpc_socket_mutator* mutator) {
          const std::string& name = Ours(mutator)->algorithm;
          (void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.data(), name.size());
          return true;
        },
    .compare =
        [](grpc_socket_mutator* a, grpc_socket_mutator* b) {
          return Ours(a)->algorithm.compare(Ours(b)->algorithm);
        },
    .destroy = [](grpc_socket_mutator* mutator) { delete Ours(mutator); },
    // Null: mutate_fd is called for listening and connecting sockets; accepted ones inherit.
    .mutate_fd_2 = nullptr,
};

}  // namespace

void SetCongestionControl(grpc::ChannelArguments& args, const std::string& algorithm) {
  auto* mutator = new CongestionMutator{{}, algorithm};
  grpc_socket_mutator_init(&mutator->base, &kVtable);
  args.SetSocketMutator(&mutator->base);
}
#else
void SetCongestionControl(grpc::ChannelArguments&, const std::string&) {}
#endif

}  // namespace muster::rpc
