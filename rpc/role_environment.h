// What libraries read from a process's environment before main or before their first use, and no
// call or channel argument can say. Whoever starts a role puts it there.
#pragma once

#include <array>
#include <utility>

namespace muster::rpc {

// Names and values, as gRPC 1.51 and glibc 2.35 understand them; others ignore what they do not
// know.
inline constexpr std::array<std::pair<const char*, const char*>, 3> kRoleEnvironment = {{
    // gRPC's default, one epoll set for all its threads, has a message taken off the socket by
    // any of them, which then wakes the one that it is for.
    {"GRPC_POLL_STRATEGY", "poll"},
    // Otherwise a connection makes as many buffers ahead as it read in its longest round without a
    // pause, whatever GRPC_ARG_TCP_MAX_READ_CHUNK_SIZE says, and a server's memory grows for hours.
    {"GRPC_EXPERIMENTS", "-tcp_read_chunks"},
    // Receive buffers and arenas in huge pages, where the system gives them to those who ask.
    {"GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"},
}};

}  // namespace muster::rpc
