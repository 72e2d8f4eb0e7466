// Device: memory, streams and the table of ops of one processor; Buffer: memory of a device, owned.
//
// Thread-safe, except where an op says otherwise. The device outlives its buffers, streams, events
// and plans.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "kernels/stream.h"
#include "kernels/tensor.h"
#include "telemetry/status.h"

namespace muster {

class DeviceOps;

class Device {
 public:
  virtual ~Device() = default;
  virtual std::string name() const = 0;         // "/cpu:0"
  virtual std::string description() const = 0;  // "2 threads, avx512_core"
  virtual std::string model() const = 0;        // "cpu", "NVIDIA H200": alike devices, alike bits
  virtual int threads() const = 0;              // of the host that an op may use
  virtual bool host_memory() const = 0;         // the host may read and write the device's memory
  virtual DeviceOps& ops() = 0;
  virtual std::unique_ptr<Stream> MakeStream() = 0;
  virtual std::unique_ptr<Event> MakeEvent() = 0;
  // `bytes` of memory aligned to 64, filled with zeros. Fails with ResourceExhausted.
  virtual absl::StatusOr<void*> Allocate(size_t bytes) = 0;
  virtual void Free(void* memory, size_t bytes) = 0;
  // How often memory was given back, scratch of streams included: a graph can be launched as long
  // as this stays what it was. 0 where there are no graphs.
  virtual int64_t frees() const { return 0; }
  // Keeps memory of the host where it is until Unpin, so that copies from and to it run beside
  // everything else. Fails where the system does not allow it; copies then are slower. Nothing on
  // cpu.
  virtual absl::Status Pin(void* /*memory*/, size_t /*bytes*/) { return absl::OkStatus(); }
  virtual void Unpin(void* /*memory*/) {}
};

// The host's processor. An op uses at most `threads` threads, and the calling one alone when that
// is 1; results are the same, bit for bit, whenever the number of threads and the instruction set
// are. PRECONDITION: threads >= 1.
std::unique_ptr<Device> MakeCpuDevice(int threads);

// Memory of a device, freed with the object. Movable.
class Buffer {
 public:
  Buffer() = default;
  // Zeros. A device without memory for it ends the process with one line (telemetry/fatal.h): for
  // scratch memory amid a step, where nobody could do anything about it.
  Buffer(Device& device, size_t bytes);
  // The same. Fails with ResourceExhausted.
  static absl::StatusOr<Buffer> Make(Device& device, size_t bytes);
  ~Buffer() { Reset(); }
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept;

  template <typename T = float>
  T* data() const {
    return static_cast<T*>(data_);
  }
  size_t size_bytes() const { return bytes_; }

 private:
  void Reset();

  Device* device_ = nullptr;
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace muster
