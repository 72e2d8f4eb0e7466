#include "ps/wire.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "kernels/copy_past_cache.h"
#include "telemetry/check.h"

namespace muster::ps {
namespace {

constexpr int64_t kMaxStep = int64_t{1} << 53;  // far beyond any job; keeps step + 1 in range
constexpr size_t kMostQuorumBytes = 8192;       // of 65,536 replicas
constexpr size_t kMaxErrorText = 4096;          // bytes of a peer's text that are repeated
// A slice of that size is one of many: what came first has left the caches before it is read.
constexpr size_t kPastCacheBytes = 1 << 20;

absl::Status CheckCommon(const rpc::Message& message, const Partition& partition, int server) {
  const rpc::Header& h = message.header;
  if (h.magic != rpc::Header::kMagic) {
    return absl::InvalidArgumentError(fmt::format("message with magic {:#x}", h.magic));
  }
  if (h.slice >= partition.slices.size()) {
    return absl::InvalidArgumentError(
        fmt::format("slice {} of a job with {} slices", h.slice, partition.slices.size()));
  }
  if (partition.server[h.slice] != server) {
    return absl::InvalidArgumentError(
        fmt::format("slice {} lives on parameter server {}, this is {}", h.slice,
                    partition.server[h.slice], server));
  }
  if (h.rows != 0) {
    return absl::InvalidArgumentError(
        fmt::format("slice {} is dense, and {} of its rows are named", h.slice, h.rows));
  }
  if (h.step < 0 || h.step > kMaxStep) {
    return absl::InvalidArgumentError(fmt::format("step {} is out of range", h.step));
  }
  return absl::OkStatus();
}

absl::Status CheckPayload(const rpc::Message& message, size_t expected) {
  if (message.payload.size() == expected) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format("slice {} has a payload of {} bytes, not {}",
                                                message.header.slice, message.payload.size(),
                                                expected));
}

// A NORMS or TOTALS of `values(round)` values.
absl::Status CheckRound(const rpc::Message& message, const ParamTable& table,
                        const ParamSlice& slice,
                        size_t (*values)(const ParamTable&, const ParamSlice&, NormRound)) {
  if (message.header.code >= kNormRounds) {
    return absl::InvalidArgumentError(
        fmt::format("norms of round {}; there are {}", message.header.code, kNormRounds));
  }
  const size_t expected = values(table, slice, static_cast<NormRound>(message.header.code));
  if (expected == 0) {
    return absl::InvalidArgumentError(
        fmt::format("slice {} is of statistics, which have no norms", message.header.slice));
  }
  return CheckPayload(message, expected * sizeof(double));
}

size_t QuorumBytes(int replicas) { return (static_cast<size_t>(replicas) + 7) / 8; }

absl::Status CheckParams(const rpc::Message& message, const ParamTable& table,
                         const ParamSlice& slice) {
  const bool delta = (message.header.flags & kDelta) != 0;
  if (delta && !SendsDeltas(table.specs()[static_cast<size_t>(slice.param)].pull_codec.get())) {
    return absl::InvalidArgumentError(
        fmt::format("slice {} does not travel as deltas, and this is one", message.header.slice));
  }
  return CheckPayload(message, PullBytes(table, slice, delta));
}

// An ARRIVED or QUORUM.
absl::Status CheckQuorum(const rpc::Message& message, const WireLimits& limits) {
  const rpc::Header& h = message.header;
  if (limits.backups == 0) {
    return absl::InvalidArgumentError("a step counts all replicas here: there is no quorum");
  }
  if (h.type == rpc::MessageType::kArrived) {
    if (h.slice == 0) return CheckPayload(message, 0);
    return absl::InvalidArgumentError(
        fmt::format("slice {} is asked for the quorum; slice 0's server decides", h.slice));
  }
  RETURN_IF_ERROR(CheckPayload(message, QuorumBytes(limits.num_replicas)));
  const Decision decision = DecisionOf(message, limits.num_replicas);
  const auto counted = std::ranges::count(decision.counted, true);
  const std::string bits = message.payload.Flatten();
  int64_t all = 0;
  for (const char byte : bits) all += std::popcount(static_cast<unsigned char>(byte));
  if (counted == limits.num_replicas - limits.backups && all == counted) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("step {} is said to count {} of {} replicas", h.step, all, limits.num_replicas));
}

}  // namespace

rpc::Message PushMessage(int32_t slice, int32_t replica, int64_t step, bool want_params,
                         rpc::Payload gradient) {
  rpc::Message out;
  out.header.type = rpc::MessageType::kPush;
  out.header.flags = want_params ? rpc::kWantParams : 0;
  out.header.slice = static_cast<uint32_t>(slice);
  out.header.replica = static_cast<uint32_t>(replica);
  out.header.step = step;
  out.payload = std::move(gradient);
  return out;
}

rpc::Message AckMessage(const rpc::Header& push, AckCode code) {
  rpc::Message out;
  out.header = push;
  out.header.type = rpc::MessageType::kAck;
  out.header.code = static_cast<uint16_t>(code);
  out.header.payload_bytes = 0;
  return out;
}

rpc::Message PullMessage(int32_t slice, int32_t replica, int64_t clock, int64_t version,
                         bool all_at_clock) {
  rpc::Message out;
  out.header.type = rpc::MessageType::kPull;
  out.header.flags = all_at_clock ? rpc::kAllAtClock : 0;
  out.header.slice = static_cast<uint32_t>(slice);
  out.header.replica = static_cast<uint32_t>(replica);
  out.header.step = clock;
  out.header.version = version;
  return out;
}

rpc::Message AskClockMessage(int32_t slice, int32_t replica) {
  rpc::Message out = PullMessage(slice, replica, /*clock=*/0, /*version=*/-1, false);
  out.header.flags = kAskClock;
  return out;
}

rpc::Message ParamsMessage(int32_t slice, int32_t replica, int64_t clock, int64_t version,
                           rpc::Payload params) {
  rpc::Message out;
  out.header.type = rpc::MessageType::kParams;
  out.header.slice = static_cast<uint32_t>(slice);
  out.header.replica = static_cast<uint32_t>(replica);
  out.header.step = clock;
  out.header.version = version;
  out.payload = std::move(params);
  return out;
}

rpc::Message NormsMessage(int32_t slice, int64_t step, NormRound round,
                          const std::vector<double>& norms) {
  rpc::Message out;
  out.header.type = rpc::MessageType::kNorms;
  out.header.code = static_cast<uint16_t>(round);
  out.header.slice = static_cast<uint32_t>(slice);
  out.header.step = step;
  out.payload = DoublesPayload(norms);
  return out;
}

rpc::Message TotalsMessage(int32_t slice, int64_t step, NormRound round,
                           const std::vector<double>& totals) {
  rpc::Message out = NormsMessage(slice, step, round, totals);
  out.header.type = rpc::MessageType::kTotals;
  return out;
}

rpc::Message ArrivedMessage(int32_t replica, int64_t step) {
  rpc::Message out;
  out.header.type = rpc::MessageType::kArrived;
  out.header.replica = static_cast<uint32_t>(replica);
  out.header.step = step;
  return out;
}

rpc::Message QuorumMessage(int32_t slice, const Decision& decision) {
  std::string bits(QuorumBytes(static_cast<int>(decision.counted.size())), '\0');
  for (size_t v = 0; v < decision.counted.size(); ++v) {
    if (decision.counted[v]) bits[v / 8] = static_cast<char>(bits[v / 8] | 1 << v % 8);
  }
  rpc::Message out;
  out.header.type = rpc::MessageType::kQuorum;
  out.header.slice = static_cast<uint32_t>(slice);
  out.header.step = decision.step;
  out.payload = rpc::Payload::Own(std::move(bits));
  return out;
}

Decision DecisionOf(const rpc::Message& quorum, int replicas) {
  Decision out{quorum.header.step, ReplicaSet(static_cast<size_t>(replicas), false)};
  const std::string bits = quorum.payload.Flatten();
  CHECK_GE(bits.size(), QuorumBytes(replicas));
  for (size_t v = 0; v < out.counted.size(); ++v) out.counted[v] = (bits[v / 8] >> v % 8 & 1) != 0;
  return out;
}

rpc::Message ErrorMessage(const rpc::Header& request, const absl::Status& status) {
  rpc::Message out;
  out.header = request;
  out.header.magic = rpc::Header::kMagic;
  out.header.type = rpc::MessageType::kError;
  out.header.code = static_cast<uint16_t>(status.code());
  out.payload = rpc::Payload::Own(std::string(status.message()));
  return out;
}

absl::Status CheckRequest(const rpc::Message& message, const WireLimits& limits) {
  const rpc::Header& h = message.header;
  if (h.type != rpc::MessageType::kPush && h.type != rpc::MessageType::kPull &&
      h.type != rpc::MessageType::kTotals && h.type != rpc::MessageType::kArrived &&
      h.type != rpc::MessageType::kQuorum) {
    return absl::InvalidArgumentError(
        fmt::format("a parameter server takes PUSH, PULL, TOTALS, ARRIVED and QUORUM, not type {}",
                    int{uint8_t(h.type)}));
  }
  RETURN_IF_ERROR(CheckCommon(message, *limits.partition, limits.server));
  if (h.replica >= static_cast<uint32_t>(limits.num_replicas)) {
    return absl::InvalidArgumentError(
        fmt::format("replica {} of a job with {} replicas", h.replica, limits.num_replicas));
  }
  const ParamSlice& slice = limits.partition->slices[h.slice];
  if (h.type == rpc::MessageType::kPush) {
    return CheckPayload(message, PushBytes(*limits.table, slice));
  }
  if (h.type == rpc::MessageType::kTotals) {
    return CheckRound(message, *limits.table, slice, TotalValues);
  }
  if (h.type != rpc::MessageType::kPull) return CheckQuorum(message, limits);
  if (h.version < -1 || h.version > kMaxStep) {
    return absl::InvalidArgumentError(fmt::format("version {} is out of range", h.version));
  }
  return CheckPayload(message, 0);
}

absl::Status CheckAnswer(const rpc::Message& message, const ParamTable& table,
                         const Partition& partition, int server) {
  RETURN_IF_ERROR(CheckCommon(message, partition, server));
  switch (message.header.type) {
    case rpc::MessageType::kAck:
      return CheckPayload(message, 0);
    case rpc::MessageType::kParams:
      return CheckParams(message, table, partition.slices[message.header.slice]);
    case rpc::MessageType::kNorms:
      return CheckRound(message, table, partition.slices[message.header.slice], NormValues);
    case rpc::MessageType::kQuorum:
      // How many replicas there are is the server's to know.
      if (message.payload.size() <= kMostQuorumBytes) return absl::OkStatus();
      return absl::InvalidArgumentError(
          fmt::format("a quorum of {} bytes", message.payload.size()));
    default:
      return absl::InvalidArgumentError(
          fmt::format("a worker takes ACK, PARAMS, NORMS and QUORUM, not type {}",
                      int{uint8_t(message.header.type)}));
  }
}

absl::Status StatusOf(const rpc::Message& error) {
  std::string text;
  for (const rpc::Payload::Slice& slice : error.payload.slices()) {
    const size_t n = std::min(slice.bytes.size(), kMaxErrorText - text.size());
    text.append(reinterpret_cast<const char*>(slice.bytes.data()), n);
  }
  const auto code = static_cast<absl::StatusCode>(error.header.code);
  const bool known = code > absl::StatusCode::kOk && code <= absl::StatusCode::kUnauthenticated;
  return absl::Status(known ? code : absl::StatusCode::kUnknown, text);
}

bool ForEachRun(const rpc::Payload& payload, int64_t max_run,
                absl::FunctionRef<bool(int64_t begin, const std::byte* src, int64_t n)> visit) {
  CHECK_EQ(payload.size() % sizeof(float), 0u);
  std::array<std::byte, sizeof(float)> split{};  // a float whose bytes two ranges share
  size_t have = 0;                               // bytes of it so far
  int64_t begin = 0;
  for (const rpc::Payload::Slice& slice : payload.slices()) {
    std::span<const std::byte> bytes = slice.bytes;
    if (have > 0) {
      const size_t take = std::min(bytes.size(), split.size() - have);
      if (take > 0) std::memcpy(split.data() + have, bytes.data(), take);
      have += take;
      bytes = bytes.subspan(take);
      if (have < split.size()) continue;
      if (!visit(begin++, split.data(), 1)) return false;
      have = 0;
    }
    while (bytes.size() >= sizeof(float)) {
      const int64_t n = std::min(max_run, static_cast<int64_t>(bytes.size() / sizeof(float)));
      if (!visit(begin, bytes.data(), n)) return false;
      begin += n;
      bytes = bytes.subspan(static_cast<size_t>(n) * sizeof(float));
    }
    have = bytes.size();
    if (have > 0) std::memcpy(split.data(), bytes.data(), have);
  }
  return true;
}

void CopyFloats(const rpc::Payload& payload, std::span<float> out) {
  CHECK_EQ(payload.size(), out.size_bytes());
  auto* to = reinterpret_cast<std::byte*>(out.data());
  if (payload.size() < kPastCacheBytes) return payload.CopyTo(to);
  for (const rpc::Payload::Slice& slice : payload.slices()) {
    CopyPastCache(to, slice.bytes.data(), slice.bytes.size());
    to += slice.bytes.size();
  }
}

}  // namespace muster::ps
