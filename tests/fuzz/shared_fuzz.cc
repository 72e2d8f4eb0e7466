// A peer on the same host that writes anything into its ring and points anywhere in its memory:
// what is handed over lies in memory that it has shown, and nothing else is touched.
#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "rpc/ring.h"
#include "rpc/shared_places.h"
#include "telemetry/check.h"
#include "tests/fuzz/input.h"

namespace muster::rpc {
namespace {

using fuzz::Input;

constexpr size_t kShown = 10'000;
constexpr int kMostRecords = 64;

// Exactly as large as it must be, so that a sanitizer sees a byte too many.
struct RingMemory {
  RingMemory()
      : bytes(static_cast<std::byte*>(std::aligned_alloc(64, kRingMemoryBytes)), &std::free) {
    std::memset(bytes.get(), 0, kRingMemoryBytes);
  }
  std::span<std::byte> span() const { return {bytes.get(), kRingMemoryBytes}; }
  RingControl& control() const { return *reinterpret_cast<RingControl*>(bytes.get()); }

  std::unique_ptr<std::byte, decltype(&std::free)> bytes;
};

// A counter's value: small, near the ring's size, or anything.
uint64_t Counter(Input& input) {
  switch (input.Below(3)) {
    case 0:
      return input.Byte() * 8u;
    case 1:
      return kRingBytes + input.Byte() - 128;
    default:
      return input.Number<uint64_t>();
  }
}

void ReadHostileRing(Input& input) {
  const RingMemory own, peer;
  Ring ring(own.span(), peer.span());
  while (!input.empty()) {
    peer.control().produced = Counter(input);
    peer.control().consumed = Counter(input);
    peer.control().starving = input.Byte();
    std::byte* const at =
        peer.span().data() + sizeof(RingControl) + input.Number<uint16_t>() % (kRingBytes - 256);
    for (int n = input.Byte(); n > 0 && !input.empty(); --n) at[n] = std::byte{input.Byte()};
    Ring::Record record;
    for (int i = 0; i < kMostRecords; ++i) {
      const auto found = ring.Peek(&record);
      if (!found.ok() || !*found) break;
      CHECK_LE(record.bytes, kRingBytes / 4);
      std::vector<std::byte> bytes(record.bytes);
      ring.Take(record, bytes.data());
    }
    const std::vector<std::byte> payload(input.Byte());
    const Payload::Slice slice{payload, nullptr};
    record.kind = Ring::Kind::kInline;
    record.bytes = static_cast<uint32_t>(payload.size());
    for (int i = input.Byte() * 8; i > 0; --i) {
      const auto written = ring.Write(record, {&slice, 1});
      if (!written.ok() || !*written) break;
    }
  }
}

// Two processes' regions, one of which has shown the other kShown bytes: byte i is i % 251.
struct Neighbours {
  Neighbours() {
    ours = std::make_unique<Sharing>(*SharedRegions::Open(*log), *log, 0);
    theirs = *SharedRegions::Open(*log);
    shown = theirs->Allocate(kShown);
    for (size_t i = 0; i < kShown; ++i) shown[i] = std::byte(i % 251);
    link = theirs->NewLink();
    CHECK(theirs->Join(link) && ours->regions->Join(link));
    theirs->Show(link, ours->regions->name());
    for (;;) {
      const auto found = theirs->Find(link, {shown.get(), kShown});
      if (found.has_value()) {
        range = found->range;
        region_bytes = found->memory->bytes().size();
        return;
      }
      std::this_thread::yield();
    }
  }

  const std::unique_ptr<Log> log = Log::Discard();
  std::unique_ptr<Sharing> ours;
  std::unique_ptr<SharedRegions> theirs;
  SharedLink link;
  std::shared_ptr<std::byte[]> shown;
  SharedRange range;  // of the whole
  size_t region_bytes = 0;
};

uint64_t Wrong(Input& input, uint64_t right) {
  switch (input.Below(4)) {
    case 0:
      return right;
    case 1:
      return right + input.Byte();
    case 2:
      return right - input.Byte();
    default:
      return input.Number<uint64_t>();
  }
}

void ResolveHostilePlaces(Input& input, const Neighbours& neighbours) {
  PlaceReader reader(*neighbours.ours, neighbours.link);
  while (!input.empty()) {
    std::vector<SharedRange> ranges(static_cast<size_t>(input.Below(4)));
    for (SharedRange& range : ranges) {
      range.region = Wrong(input, neighbours.range.region);
      const size_t end = neighbours.region_bytes;
      range.offset = Wrong(input, input.Below(4) == 3 ? end - 64 : neighbours.range.offset);
      range.size = Wrong(input, input.Below(2) == 0 ? 64 : kShown);
    }
    Payload places = PlacesToPayload(ranges);
    if (input.Below(4) == 3) {
      std::string text = places.Flatten();
      text.resize(Wrong(input, text.size()) % 4096);
      places = Payload::Own(std::move(text));
    }
    const auto payload = PlacesFromPayload(reader, places);
    if (!payload.ok()) continue;
    CHECK_EQ(payload->slices().size(), ranges.size());
    for (size_t i = 0; i < ranges.size(); ++i) {
      const std::span<const std::byte> bytes = payload->slices()[i].bytes;
      CHECK_EQ(bytes.size(), ranges[i].size);
      CHECK_LE(bytes.size(), neighbours.region_bytes);
      CHECK_LE(ranges[i].offset, neighbours.region_bytes - bytes.size());
      const size_t first = ranges[i].offset - neighbours.range.offset;
      for (size_t at = 0; at < bytes.size() && first + at < kShown; ++at) {
        CHECK(bytes[at] == std::byte((first + at) % 251));
      }
    }
  }
}

}  // namespace
}  // namespace muster::rpc

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto* const neighbours = new muster::rpc::Neighbours;
  muster::fuzz::Input input(data, size);
  if (input.Below(2) == 0) {
    muster::rpc::ReadHostileRing(input);
  } else {
    muster::rpc::ResolveHostilePlaces(input, *neighbours);
  }
  return 0;
}
