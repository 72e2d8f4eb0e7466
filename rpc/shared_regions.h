// SharedRegions: the shared memory of one process, and what its peers on the same host have shown
// it of theirs.
//
// Each process has a datagram socket without a file (abstract name), over which a region's
// descriptor goes to a peer once (SCM_RIGHTS; only from and to processes of the same user, which
// the kernel vouches for), and the word that it is mapped comes back. A peer on another host is not
// there: nothing is sent to it, and its tensors take the wire.
//
// Thread-safe. Owns the socket, a thread, its own regions and the mappings of others'. What
// Allocate and Resolve return keeps its memory alive.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <thread>

#include "rpc/message.h"
#include "rpc/shared_memory.h"
#include "telemetry/log.h"
#include "telemetry/mutex.h"
#include "telemetry/status.h"

namespace muster::rpc {

// Bytes of one region, as one process tells them to another.
struct SharedRange {
  uint64_t region = 0;
  uint64_t offset = 0, size = 0;  // bytes
  bool IsIn(const SharedMemory& memory) const {
    return offset <= memory.bytes().size() && size <= memory.bytes().size() - offset;
  }
};

// The same, with the memory that they are in.
struct FoundRange {
  SharedRange range;
  std::shared_ptr<SharedMemory> memory;
};

class SharedRegions {
 public:
  // Characters of a process's name.
  static constexpr size_t kNameBytes = 32;

  // Fails when the system gives no socket.
  static absl::StatusOr<std::unique_ptr<SharedRegions>> Open(Log& log);
  ~SharedRegions();

  // The name under which peers find this process; said in the Hello of its streams.
  const std::string& name() const { return name_; }

  // `size` bytes aligned to 64, all zero; null when the system has no shared memory left.
  std::shared_ptr<std::byte[]> Allocate(size_t size);

  // A stream to the process `peer` is open: shows it all regions, now and later.
  void Meet(const std::string& peer);
  // The stream is closed. After the last one what it had shown is forgotten.
  void Part(const std::string& peer);

  // Where `bytes` lie, if in a region that `peer` has mapped.
  std::optional<FoundRange> Find(const std::string& peer, std::span<const std::byte> bytes);
  // The memory that `peer` means. Fails when it has not shown the region, or it has no such bytes.
  absl::StatusOr<std::shared_ptr<SharedMemory>> Resolve(const std::string& peer,
                                                        const SharedRange& range);

 private:
  struct Letter;
  struct Peer {
    int streams = 0;
    bool unreachable = false;
    std::set<uint64_t> mapped;                                // our regions that it has mapped
    std::map<uint64_t, std::shared_ptr<SharedMemory>> shown;  // its regions
  };
  struct Region {
    uint64_t id = 0;
    std::weak_ptr<SharedMemory> memory;
  };
  struct Outgoing {
    std::string peer;
    uint64_t region = 0;
    std::shared_ptr<SharedMemory> memory;  // null: the word that the peer's region is mapped
  };

  SharedRegions(int socket, int wake, std::string name, Log& log);
  void Run();
  // One datagram; false when there is none.
  bool Receive();
  void Take(const Letter& letter, int fd);
  // Sends what can be sent now; true when something is left.
  bool SendAll();
  void Post(Outgoing outgoing) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const int socket_;
  const int wake_;  // eventfd: something to send, or to end
  const std::string name_;
  Log& log_;

  Mutex mu_;
  uint64_t next_region_ ABSL_GUARDED_BY(mu_) = 1;
  std::map<const std::byte*, Region> regions_ ABSL_GUARDED_BY(mu_);  // by address
  std::shared_ptr<SharedMemory> block_ ABSL_GUARDED_BY(mu_);         // that Allocate takes from
  size_t block_used_ ABSL_GUARDED_BY(mu_) = 0;                       // bytes
  std::map<std::string, Peer> peers_ ABSL_GUARDED_BY(mu_);           // by name
  std::deque<Outgoing> outgoing_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace muster::rpc
