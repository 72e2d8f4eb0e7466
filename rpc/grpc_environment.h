// What gRPC reads from a process's environment before its first use, and no channel argument can
// say. Whoever starts a role puts it there.
#pragma once

#include <array>
#include <utility>

namespace muster::rpc {

// Names and values, as gRPC 1.51 understands them; others ignore what they do not know.
inline constexpr std::array<std::pair<const char*, const char*>, 2> kGrpcEnvironment = {{
    // gRPC's default, one epoll set for all its threads, has a message taken off the socket by
    // any of them, which then wakes the one that it is for.
    {"GRPC_POLL_STRATEGY", "poll"},
    // Otherwise a connection makes as many buffers ahead as it read in its longest round without a
    // pause, whatever GRPC_ARG_TCP_MAX_READ_CHUNK_SIZE says, and a server's memory grows for hours.
    {"GRPC_EXPERIMENTS", "-tcp_read_chunks"},
}};

}  // namespace muster::rpc
