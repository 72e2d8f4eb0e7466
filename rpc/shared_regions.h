// SharedRegions: the shared memory of one process, and what its peers on the same host have shown
// it of theirs.
//
// Each process has a datagram socket without a file (abstract name), over which a region's
// descriptor goes to a peer (SCM_RIGHTS; only from and to processes of the same user, which the
// kernel vouches for), and the word that it is mapped comes back. A peer on another host is not
// there: nothing is sent to it, and its tensors take the wire.
//
// What is shown is shown on a link, the two ends of one stream, and holds as long as that: whoever
// reads a message of the stream still has what was shown on it, however the ends' other streams
// come and go. A region that is shown on several links is mapped once.
//
// Thread-safe. Owns the socket, a thread, its own regions and the mappings of others'. What
// Allocate and Resolve return keeps its memory alive.
#pragma once

#include <compare>
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

// A stream between two processes, by the same name at both ends.
struct SharedLink {
  std::string connector;  // name of the process that opened the stream
  uint64_t number = 0;    // that it gave the stream; 0: none
  auto operator<=>(const SharedLink&) const = default;
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

  // A name for a stream that this process is about to open.
  SharedLink NewLink();
  // What the peer shows on `link` is taken from now on: to be called before the peer can know that
  // this end is there. False, and nothing happens, when that is no link.
  bool Join(const SharedLink& link);
  // The end is gone. After the last Part of as many as Join what was shown on the link is
  // forgotten.
  void Part(const SharedLink& link);
  // The process `peer` has joined: shows it all regions on `link`, now and later.
  void Show(const SharedLink& link, const std::string& peer);

  // Where `bytes` lie, if in a region that the other end of `link` has mapped.
  std::optional<FoundRange> Find(const SharedLink& link, std::span<const std::byte> bytes);
  // The memory that the other end means. Fails when it has not shown the region, or that has no
  // such bytes.
  absl::StatusOr<std::shared_ptr<SharedMemory>> Resolve(const SharedLink& link,
                                                        const SharedRange& range);

 private:
  struct Letter;
  struct Ends {
    int joined = 0;
    std::string peer;  // that our regions are shown to; "": not yet
    bool unreachable = false;
    std::set<uint64_t> mapped;                                // our regions that it has mapped
    std::map<uint64_t, std::shared_ptr<SharedMemory>> shown;  // its regions
    std::string shown_by;                                     // its name
  };
  struct Region {
    uint64_t id = 0;
    std::weak_ptr<SharedMemory> memory;
  };
  struct Outgoing {
    std::string peer;
    SharedLink link;
    uint64_t region = 0;
    std::shared_ptr<SharedMemory> memory;  // null: the word that the peer's region is mapped
  };

  SharedRegions(int socket, int wake, std::string name, Log& log);
  void Run();
  // One datagram; false when there is none.
  bool Receive();
  void Take(const Letter& letter, int fd);
  // What `peer` has shown as `region` on any link; null: nothing.
  std::shared_ptr<SharedMemory> Shown(const std::string& peer, uint64_t region)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Sends what can be sent now; true when something is left.
  bool SendAll();
  void Post(Outgoing outgoing) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const int socket_;
  const int wake_;  // eventfd: something to send, or to end
  const std::string name_;
  Log& log_;

  Mutex mu_;
  uint64_t next_region_ ABSL_GUARDED_BY(mu_) = 1;
  uint64_t next_link_ ABSL_GUARDED_BY(mu_) = 1;
  std::map<const std::byte*, Region> regions_ ABSL_GUARDED_BY(mu_);  // by address
  std::shared_ptr<SharedMemory> block_ ABSL_GUARDED_BY(mu_);         // that Allocate takes from
  size_t block_used_ ABSL_GUARDED_BY(mu_) = 0;                       // bytes
  std::map<SharedLink, Ends> links_ ABSL_GUARDED_BY(mu_);
  std::deque<Outgoing> outgoing_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;
};

}  // namespace muster::rpc
