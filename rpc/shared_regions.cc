#include "rpc/shared_regions.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "telemetry/file.h"

namespace muster::rpc {
namespace {

constexpr size_t kBlockBytes = 64 << 20;  // Allocate takes them from blocks of this size
constexpr size_t kAlignment = 64;
constexpr size_t kNameBytes = SharedRegions::kNameBytes;
constexpr int kRetryMs = 5;  // the peer's queue is full
// What one peer may show on a link: a stranger of the same user shall not fill our memory.
constexpr size_t kMostRegions = 4096;

// The abstract address of a process's socket.
socklen_t AddressOf(const std::string& name, sockaddr_un* address) {
  std::memset(address, 0, sizeof(*address));
  address->sun_family = AF_UNIX;
  const std::string path = "muster-" + name;
  std::memcpy(address->sun_path + 1, path.data(), path.size());
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + path.size());
}

bool IsName(const std::string& name) {
  return name.size() == kNameBytes &&
         name.find_first_not_of("0123456789abcdef") == std::string::npos;
}

}  // namespace

// The datagram: a region of the sender's with its descriptor, or the word that a region of the
// receiver's is mapped; on which link.
struct SharedRegions::Letter {
  static constexpr uint64_t kMagic = 0x3230'524d'4853'4d4d;
  enum Kind : uint64_t { kRegion = 1, kMapped = 2 };

  uint64_t magic = kMagic;
  uint64_t kind = 0;
  uint64_t region = 0;
  uint64_t size = 0;  // bytes of the region
  uint64_t link = 0;  // its number, given by
  char connector[kNameBytes] = {};
  char from[kNameBytes] = {};
};

absl::StatusOr<std::unique_ptr<SharedRegions>> SharedRegions::Open(Log& log) {
  uint64_t random[2];
  if (getrandom(random, sizeof(random), 0) != sizeof(random)) {
    return ErrnoStatus(errno, "no random numbers");
  }
  const std::string name = fmt::format("{:016x}{:016x}", random[0], random[1]);
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return ErrnoStatus(errno, "cannot open a unix socket");
  sockaddr_un address{};
  const socklen_t length = AddressOf(name, &address);
  const int yes = 1;
  const int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), length) != 0 ||
      setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &yes, sizeof(yes)) != 0 || wake < 0) {
    const int error = errno;
    close(fd);
    if (wake >= 0) close(wake);
    return ErrnoStatus(error, "cannot use a unix socket");
  }
  return std::unique_ptr<SharedRegions>(new SharedRegions(fd, wake, name, log));
}

SharedRegions::SharedRegions(int socket, int wake, std::string name, Log& log)
    : socket_(socket), wake_(wake), name_(std::move(name)), log_(log), thread_([this] { Run(); }) {}

SharedRegions::~SharedRegions() {
  {
    MutexLock lock(mu_);
    stopping_ = true;
  }
  (void)eventfd_write(wake_, 1);
  thread_.join();
  close(socket_);
  close(wake_);
}

std::shared_ptr<std::byte[]> SharedRegions::Allocate(size_t size) {
  const size_t rounded = (std::max<size_t>(size, 1) + kAlignment - 1) / kAlignment * kAlignment;
  MutexLock lock(mu_);
  if (block_ == nullptr || block_used_ + rounded > block_->bytes().size()) {
    auto block = SharedMemory::Create(std::max(kBlockBytes, rounded));
    if (!block.ok()) {
      log_.Warning("{}: tensors go over the wire", std::string(block.status().message()));
      return nullptr;
    }
    block_ = *std::move(block);
    block_used_ = 0;
    const uint64_t id = next_region_++;
    regions_[block_->bytes().data()] = {id, block_};
    for (const auto& [link, ends] : links_) {
      if (!ends.peer.empty() && !ends.unreachable) Post({ends.peer, link, id, block_});
    }
  }
  std::byte* begin = block_->bytes().data() + block_used_;
  block_used_ += rounded;
  return {block_, begin};
}

SharedLink SharedRegions::NewLink() {
  MutexLock lock(mu_);
  return {name_, next_link_++};
}

bool SharedRegions::Join(const SharedLink& link) {
  if (!IsName(link.connector) || link.number == 0) return false;
  MutexLock lock(mu_);
  ++links_[link].joined;
  return true;
}

void SharedRegions::Part(const SharedLink& link) {
  std::map<uint64_t, std::shared_ptr<SharedMemory>> shown;  // unmapped outside the lock
  MutexLock lock(mu_);
  const auto found = links_.find(link);
  if (found == links_.end() || --found->second.joined > 0) return;
  shown.swap(found->second.shown);
  links_.erase(found);
}

void SharedRegions::Show(const SharedLink& link, const std::string& peer) {
  if (!IsName(peer)) return;
  MutexLock lock(mu_);
  const auto found = links_.find(link);
  if (found == links_.end() || !found->second.peer.empty()) return;
  found->second.peer = peer;
  std::erase_if(regions_, [](const auto& entry) { return entry.second.memory.expired(); });
  for (const auto& [begin, region] : regions_) {
    if (auto memory = region.memory.lock()) Post({peer, link, region.id, std::move(memory)});
  }
}

std::optional<FoundRange> SharedRegions::Find(const SharedLink& link,
                                              std::span<const std::byte> bytes) {
  MutexLock lock(mu_);
  const auto to = links_.find(link);
  if (to == links_.end()) return std::nullopt;
  auto after = regions_.upper_bound(bytes.data());
  if (after == regions_.begin()) return std::nullopt;
  const auto& [begin, region] = *--after;
  std::shared_ptr<SharedMemory> memory = region.memory.lock();
  if (memory == nullptr || !to->second.mapped.contains(region.id)) return std::nullopt;
  const auto offset = static_cast<size_t>(bytes.data() - begin);
  if (offset > memory->bytes().size() || bytes.size() > memory->bytes().size() - offset) {
    return std::nullopt;
  }
  return FoundRange{{region.id, offset, bytes.size()}, std::move(memory)};
}

absl::StatusOr<std::shared_ptr<SharedMemory>> SharedRegions::Resolve(const SharedLink& link,
                                                                     const SharedRange& range) {
  MutexLock lock(mu_);
  const auto from = links_.find(link);
  if (from != links_.end()) {
    const auto region = from->second.shown.find(range.region);
    if (region != from->second.shown.end()) {
      if (range.IsIn(*region->second)) return region->second;
    }
  }
  return absl::InvalidArgumentError(
      fmt::format("a message points at bytes {} to {} of shared region {}, which is not there",
                  range.offset, range.offset + range.size, range.region));
}

std::shared_ptr<SharedMemory> SharedRegions::Shown(const std::string& peer, uint64_t region) {
  for (const auto& [link, ends] : links_) {
    if (ends.shown_by != peer) continue;
    if (const auto found = ends.shown.find(region); found != ends.shown.end()) return found->second;
  }
  return nullptr;
}

void SharedRegions::Post(Outgoing outgoing) {
  outgoing_.push_back(std::move(outgoing));
  (void)eventfd_write(wake_, 1);
}

void SharedRegions::Run() {
  bool left = false;
  while (true) {
    pollfd fds[] = {{socket_, POLLIN, 0}, {wake_, POLLIN, 0}};
    poll(fds, 2, left ? kRetryMs : -1);
    eventfd_t count = 0;
    (void)eventfd_read(wake_, &count);
    {
      MutexLock lock(mu_);
      if (stopping_) return;
    }
    while (Receive()) {
    }
    left = SendAll();
  }
}

bool SharedRegions::Receive() {
  Letter letter;
  iovec range = {&letter, sizeof(letter)};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred)) + CMSG_SPACE(4 * sizeof(int))];
  msghdr header = {};
  header.msg_iov = &range;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof(control);
  const ssize_t size = recvmsg(socket_, &header, MSG_CMSG_CLOEXEC);
  if (size < 0) return errno == EINTR;
  bool trusted = false;
  int fd = -1;
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET) continue;
    if (part->cmsg_type == SCM_CREDENTIALS) {
      ucred sender{};
      std::memcpy(&sender, CMSG_DATA(part), sizeof(sender));
      trusted = sender.uid == geteuid();
    } else if (part->cmsg_type == SCM_RIGHTS) {
      const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (size_t i = 0; i < count; ++i) {
        if (fd >= 0) close(fd);  // we send one
        std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
      }
    }
  }
  const bool whole = size == sizeof(letter) && (header.msg_flags & MSG_TRUNC) == 0;
  if (whole && trusted && letter.magic == Letter::kMagic) {
    Take(letter, fd);
  } else if (fd >= 0) {
    close(fd);
  }
  return true;
}

void SharedRegions::Take(const Letter& letter, int fd) {
  const std::string from(letter.from, kNameBytes);
  const SharedLink link = {std::string(letter.connector, kNameBytes), letter.link};
  if (!IsName(from) || (letter.kind == Letter::kRegion) != (fd >= 0)) {
    if (fd >= 0) close(fd);
    return;
  }
  if (letter.kind == Letter::kMapped) {
    MutexLock lock(mu_);
    const auto ends = links_.find(link);
    if (ends != links_.end() && ends->second.peer == from && letter.region < next_region_) {
      ends->second.mapped.insert(letter.region);
    }
    return;
  }
  std::shared_ptr<SharedMemory> memory;
  {
    MutexLock lock(mu_);
    memory = Shown(from, letter.region);
  }
  if (memory != nullptr) {
    close(fd);
  } else if (auto mapped = SharedMemory::Map(fd, letter.size); mapped.ok()) {
    memory = *std::move(mapped);
  } else {
    return log_.Warning("shared memory of a peer is not used: {}",
                        std::string(mapped.status().message()));
  }
  MutexLock lock(mu_);
  const auto found = links_.find(link);
  if (found == links_.end()) return;  // the stream has ended meanwhile
  Ends& ends = found->second;
  if (ends.shown_by.empty()) ends.shown_by = from;
  if (ends.shown_by != from || ends.shown.size() >= kMostRegions) return;
  ends.shown.emplace(letter.region, std::move(memory));
  Post({from, link, letter.region, nullptr});
}

bool SharedRegions::SendAll() {
  std::deque<Outgoing> outgoing;
  {
    MutexLock lock(mu_);
    outgoing.swap(outgoing_);
  }
  std::deque<Outgoing> kept;
  for (Outgoing& next : outgoing) {
    Letter letter;
    letter.kind = next.memory == nullptr ? Letter::kMapped : Letter::kRegion;
    letter.region = next.region;
    letter.size = next.memory == nullptr ? 0 : next.memory->bytes().size();
    letter.link = next.link.number;
    std::memcpy(letter.connector, next.link.connector.data(), kNameBytes);
    std::memcpy(letter.from, name_.data(), kNameBytes);
    iovec range = {&letter, sizeof(letter)};
    sockaddr_un address{};
    msghdr header = {};
    header.msg_name = &address;
    header.msg_namelen = AddressOf(next.peer, &address);
    header.msg_iov = &range;
    header.msg_iovlen = 1;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    if (next.memory != nullptr) {
      header.msg_control = control;
      header.msg_controllen = sizeof(control);
      cmsghdr* part = CMSG_FIRSTHDR(&header);
      part->cmsg_level = SOL_SOCKET;
      part->cmsg_type = SCM_RIGHTS;
      part->cmsg_len = CMSG_LEN(sizeof(int));
      const int fd = next.memory->fd();
      std::memcpy(CMSG_DATA(part), &fd, sizeof(fd));
    }
    if (sendmsg(socket_, &header, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) continue;
    if (errno == EAGAIN || errno == EINTR || errno == ENOBUFS || errno == ETOOMANYREFS) {
      kept.push_back(std::move(next));
      continue;
    }
    const int error = errno;
    MutexLock lock(mu_);
    bool known = false;  // on any link, so that it is said once
    for (auto& [link, ends] : links_) {
      if (ends.peer == next.peer) known |= std::exchange(ends.unreachable, true);
    }
    if (known) continue;
    log_.Info("no shared memory with a peer ({}): its tensors go over the wire",
              error == ECONNREFUSED || error == ENOENT ? "it is on another host, or gone"
                                                       : std::strerror(error));
  }
  MutexLock lock(mu_);
  outgoing_.insert(outgoing_.begin(), std::make_move_iterator(kept.begin()),
                   std::make_move_iterator(kept.end()));
  return !kept.empty();
}

}  // namespace muster::rpc
