#include "rpc/grpc_socket.h"

#include <grpcpp/version_info.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <utility>

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
