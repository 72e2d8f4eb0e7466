#include "rpc/shared_memory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "telemetry/file.h"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

namespace muster::rpc {
namespace {

constexpr int kSizeSeals = F_SEAL_SHRINK | F_SEAL_GROW;

}  // namespace

absl::StatusOr<std::shared_ptr<SharedMemory>> SharedMemory::MapAs(int fd, size_t size,
                                                                  int protection) {
  void* data = mmap(nullptr, size, protection, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) {
    const int error = errno;
    close(fd);
    return ErrnoStatus(error, fmt::format("cannot map {} bytes of shared memory", size));
  }
  return std::shared_ptr<SharedMemory>(new SharedMemory(fd, static_cast<std::byte*>(data), size));
}

absl::StatusOr<std::shared_ptr<SharedMemory>> SharedMemory::Create(size_t size) {
  const int fd = memfd_create("muster", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return ErrnoStatus(errno, "cannot make shared memory");
  if (ftruncate(fd, static_cast<off_t>(size)) != 0) {
    const int error = errno;
    close(fd);
    return ErrnoStatus(error, fmt::format("cannot make {} bytes of shared memory", size));
  }
  // Our own mapping comes first: after the seal there is no other that may write.
  ASSIGN_OR_RETURN(auto memory, MapAs(fd, size, PROT_READ | PROT_WRITE));
  if (fcntl(fd, F_ADD_SEALS, kSizeSeals | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) != 0) {
    return ErrnoStatus(errno, "cannot seal shared memory");
  }
  return memory;
}

absl::StatusOr<std::shared_ptr<SharedMemory>> SharedMemory::Map(int fd, size_t size) {
  struct stat info {};
  const int seals = fcntl(fd, F_GET_SEALS);
  const bool sealed = seals >= 0 && (seals & kSizeSeals) == kSizeSeals;
  if (!sealed || size == 0 || fstat(fd, &info) != 0 || info.st_size < 0 ||
      static_cast<size_t>(info.st_size) != size) {
    close(fd);
    return absl::InvalidArgumentError(
        fmt::format("a descriptor that is no sealed shared memory of {} bytes", size));
  }
  return MapAs(fd, size, PROT_READ);
}

SharedMemory::~SharedMemory() {
  munmap(data_, size_);
  close(fd_);
}

}  // namespace muster::rpc
