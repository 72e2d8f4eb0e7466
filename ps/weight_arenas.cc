#include "ps/weight_arenas.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "ps/pulled.h"
#include "telemetry/check.h"
#include "telemetry/file.h"

namespace muster::ps {
namespace {

// A mapping costs a system call, and a page fault for each 64 KiB: below this copying is cheaper.
constexpr size_t kLeastBytes = 16 << 10;

size_t PageBytes() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

}  // namespace

WeightArenas::Pages WeightArenas::PagesWithin(size_t begin, size_t size) {
  const size_t page = PageBytes();
  const size_t first = (begin + page - 1) / page * page, end = (begin + size) / page * page;
  return {first, end > first ? end - first : 0};
}

absl::StatusOr<std::unique_ptr<WeightArenas>> WeightArenas::Create(const ParamTable& table,
                                                                   const Partition& partition) {
  const size_t page = PageBytes();
  const size_t wanted = static_cast<size_t>(table.arena_size()) * sizeof(float);
  const size_t bytes = std::max(page, (wanted + page - 1) / page * page);
  const int fd = memfd_create("muster-weights", MFD_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, "no memory for the weights");
  std::unique_ptr<WeightArenas> arenas(new WeightArenas(table, partition, fd, bytes));
  if (ftruncate(fd, static_cast<off_t>(bytes)) != 0) {
    return ErrnoStatus(errno, "no memory for the weights");
  }
  for (std::byte*& parity : arenas->parities_) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) return ErrnoStatus(errno, "cannot map the weights");
    parity = static_cast<std::byte*>(memory);
  }
  return arenas;
}

WeightArenas::WeightArenas(const ParamTable& table, const Partition& partition, int fd,
                           size_t bytes)
    : table_(table), partition_(partition), fd_(fd), bytes_(bytes) {
  for (auto& places : places_) places.resize(partition.slices.size());
}

WeightArenas::~WeightArenas() {
  for (std::byte* parity : parities_) {
    if (parity != nullptr) munmap(parity, bytes_);
  }
  close(fd_);
}

std::span<const float> WeightArenas::At(int64_t clock) const {
  return {reinterpret_cast<const float*>(parities_[clock % 2]),
          static_cast<size_t>(table_.arena_size())};
}

absl::Status WeightArenas::Take(int32_t id, int64_t clock, const rpc::Payload& payload,
                                bool in_place, bool delta) {
  const ParamSlice& slice = partition_.slices[static_cast<size_t>(id)];
  const size_t begin = static_cast<size_t>(slice.offset(table_)) * sizeof(float);
  const size_t size = static_cast<size_t>(slice.size) * sizeof(float);
  const Codec* const codec = table_.specs()[static_cast<size_t>(slice.param)].pull_codec.get();
  CHECK_EQ(payload.size(), PullBytes(table_, slice, delta));
  std::byte* const arena = parities_[clock % 2];
  Place& place = places_[clock % 2][static_cast<size_t>(id)];
  const Pages pages = PagesWithin(begin, size);
  if (in_place && codec == nullptr && payload.slices().size() == 1 &&
      payload.slices().front().shared && pages.size >= kLeastBytes) {
    const rpc::Payload::Slice& all = payload.slices().front();
    const rpc::Payload::Slice source = {all.bytes.subspan(pages.begin - begin, pages.size),
                                        all.owner, true};
    ASSIGN_OR_RETURN(const bool there, MapThere(place, arena, pages, source));
    if (there) {
      const size_t end = pages.begin + pages.size;
      std::memcpy(arena + begin, all.bytes.data(), pages.begin - begin);
      std::memcpy(arena + end, all.bytes.data() + (end - begin), begin + size - end);
      return absl::OkStatus();
    }
  }
  if (!place.source.empty()) RETURN_IF_ERROR(MapBack(place, arena, pages));
  // What has a codec is never mapped from elsewhere: those of the clock before are here, too.
  return Unpack(codec, delta, payload,
                {reinterpret_cast<float*>(arena + begin), static_cast<size_t>(slice.size)});
}

absl::StatusOr<bool> WeightArenas::MapThere(Place& place, std::byte* arena, Pages pages,
                                            const rpc::Payload::Slice& source) {
  // While the owner is kept, the same addresses are the same memory.
  if (place.source.data() == source.bytes.data() && place.owner == source.owner) return true;
  if (reinterpret_cast<uintptr_t>(source.bytes.data()) % PageBytes() != 0) return false;
  // An old size of 0 maps the pages of a shared mapping once more.
  const void* mapped = mremap(const_cast<std::byte*>(source.bytes.data()), 0, source.bytes.size(),
                              MREMAP_MAYMOVE | MREMAP_FIXED, arena + pages.begin);
  if (mapped != MAP_FAILED) {
    place = {source.bytes, source.owner};
    return true;
  }
  // What was there may be gone.
  RETURN_IF_ERROR(MapBack(place, arena, pages));
  return false;
}

absl::Status WeightArenas::MapBack(Place& place, std::byte* arena, Pages pages) {
  if (mmap(arena + pages.begin, pages.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd_,
           static_cast<off_t>(pages.begin)) == MAP_FAILED) {
    return ErrnoStatus(errno, "cannot map the weights");
  }
  place = {};
  return absl::OkStatus();
}

int64_t WeightArenas::bytes_in_place(int64_t clock) const {
  int64_t bytes = 0;
  for (const Place& place : places_[clock % 2]) bytes += static_cast<int64_t>(place.source.size());
  return bytes;
}

}  // namespace muster::ps
