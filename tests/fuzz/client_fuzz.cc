// A server that answers anything: the client neither crashes nor writes where it must not.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "ps/client.h"
#include "ps/wire.h"
#include "rpc/inproc_transport.h"
#include "telemetry/check.h"
#include "telemetry/mutex.h"
#include "tests/fuzz/input.h"

namespace muster::ps {
namespace {

using fuzz::Input;

constexpr float kUntouched = -1;

class Deaf final : public rpc::StreamHandler {
  void OnMessage(rpc::Message) override {}
  void OnClosed(absl::Status) override {}
};

rpc::Message Answer(Input& input, const ParamTable& table, const Partition& partition) {
  rpc::Message message;
  rpc::Header& h = message.header;
  h.magic = input.Below(16) == 15 ? input.Number<uint32_t>() : rpc::Header::kMagic;
  constexpr rpc::MessageType kTypes[] = {rpc::MessageType::kAck, rpc::MessageType::kParams,
                                         rpc::MessageType::kParams, rpc::MessageType::kError};
  h.type = kTypes[input.Below(4)];
  if (input.Below(8) == 7) h.type = static_cast<rpc::MessageType>(2 + input.Below(8));
  h.flags = input.Byte() & 63;
  h.code = input.Byte();
  h.slice = input.Below(4) == 3 ? input.Number<uint32_t>() : input.Byte() % 3u;
  h.replica = input.Below(4) == 3 ? input.Number<uint32_t>() : 0;
  h.step = input.Below(4) == 3 ? input.Number<int64_t>() : input.Byte() % 3;
  h.version = input.Below(4) == 3 ? input.Number<int64_t>() : h.step;
  size_t size = 0;
  if (h.type == rpc::MessageType::kParams && h.slice < partition.slices.size()) {
    const ParamSlice& slice = partition.slices[h.slice];
    const auto& codec = table.specs()[static_cast<size_t>(slice.param)].pull_codec;
    size = PullBytes(table, slice, (h.flags & kDelta) != 0 && SendsDeltas(codec.get()));
  }
  if (h.type == rpc::MessageType::kNorms) {
    h.code &= 3;
    size = (h.code + 1u) * sizeof(double) * (h.slice == 1 ? 2 : 1);
  }
  if (input.Below(4) == 3) size = input.Byte();
  message.payload = rpc::Payload::Own(std::string(size, static_cast<char>(input.Byte())));
  return message;
}

void Run(Input& input) {
  const ParamTable table =
      *ParamTable::Make({{.name = "a", .shape = {1100}},
                         {.name = "b", .shape = {7}},
                         {.name = "c", .shape = {3}, .pull_codec = *MakeCodec("int8")}});
  const Partition partition = MakePartition(table, 1);
  const std::unique_ptr<Log> log = Log::Discard();
  const std::unique_ptr<rpc::Transport> transport = rpc::MakeInprocTransport();
  std::shared_ptr<rpc::Stream> stream;  // the server's end
  rpc::Hello hello;
  hello.role = "ps";
  const auto listener =
      *transport->Listen("inproc:0", hello,
                         [&](const rpc::Hello&, std::shared_ptr<rpc::Stream> accepted)
                             -> absl::StatusOr<std::unique_ptr<rpc::StreamHandler>> {
                           stream = std::move(accepted);
                           return std::make_unique<Deaf>();
                         });
  std::vector<float> arena(static_cast<size_t>(table.arena_size()), kUntouched);
  const std::vector<float> gradient(1100, 1.0f);
  ClientOptions options;
  options.wait_timeout_ms = 1;
  auto client =
      *Client::Connect(*transport, {listener->address()}, hello, table, partition, options, *log);
  client->SetArena(arena);
  if (input.Below(2) == 0) {  // deltas are believed
    client->Pull(0, 0, -1);
    for (int32_t id = 0; id < static_cast<int32_t>(partition.slices.size()); ++id) {
      const size_t size = PullBytes(table, partition.slices[static_cast<size_t>(id)]);
      stream->Send(ParamsMessage(id, 0, 0, 0, rpc::Payload::Own(std::string(size, '\0'))))
          .IgnoreError();
    }
    client->Wait(0).IgnoreError();
    std::ranges::fill(arena, kUntouched);
  }
  const bool pulls = input.Below(2) == 0;
  if (pulls) client->Pull(0, 1, -1);
  for (ParamId param = 0; param < 3; ++param) {
    const auto size = static_cast<size_t>(table.specs()[static_cast<size_t>(param)].size());
    client->Push(0, 0, param, std::span(gradient).first(size), 0, /*want_params=*/!pulls);
  }
  client->Flush();
  while (!input.empty()) {
    if (!stream->Send(Answer(input, table, partition)).ok()) break;
  }
  // A breach of the protocol is an error, what is still to come is late, or all of it has come.
  client->Wait(1).IgnoreError();
  client.reset();
  // What belongs to no slice is not written.
  int64_t next = 0;
  for (const ParamSlice& slice : partition.slices) {
    for (; next < slice.offset(table); ++next) {
      CHECK_EQ(arena[static_cast<size_t>(next)], kUntouched);
    }
    next += slice.size;
  }
  for (; next < table.arena_size(); ++next) CHECK_EQ(arena[static_cast<size_t>(next)], kUntouched);
}

}  // namespace
}  // namespace muster::ps

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  muster::fuzz::Input input(data, size);
  muster::ps::Run(input);
  return 0;
}
