// Device, Stream, Event, Buffer: where tensors live and where work on them is queued.
//
// A Device owns its memory and the table of its operations (device_ops.h); op.h calls through that
// table, so that layers never name a device. `cpu:0` is here; `gpu:0` comes from the CUDA plugin
// with another table. Devices are thread-safe; a Stream and its Buffers belong to one thread.
// Everything borrows its Device, which lives longest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

namespace muster {

struct DeviceOps;

class Device {
 public:
  virtual ~Device() = default;
  virtual const std::string& name() const = 0;  // "/cpu:0"
  // Threads that one operation may use; 1 never enters a parallel region.
  virtual int threads() const = 0;
  virtual const DeviceOps& ops() const = 0;
  // `bytes` of uninitialised memory, aligned to 64 bytes. Running out is fatal: arenas are
  // allocated once, at the start.
  virtual void* Allocate(size_t bytes) = 0;
  virtual void Free(void* memory) = 0;
};

// The CPU with `threads` threads per operation. Results are a function of the inputs and of
// `threads`. PRECONDITION: threads >= 1.
std::unique_ptr<Device> MakeCpuDevice(int threads);

// A queue of operations on a device, done in order. On the CPU each is done when its call returns;
// a GPU's are asynchronous.
class Stream {
 public:
  explicit Stream(Device& device) : device_(&device) {}
  Device& device() const { return *device_; }

 private:
  Device* device_;
};

// A point in a stream: `Record` marks it, `Wait` blocks the caller until the stream has passed it.
// On the CPU it always has.
class Event {
 public:
  void Record(Stream&) {}
  void Wait() {}
};

// Owned memory of a device, as float32 elements.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Device& device, int64_t elements)
      : device_(&device),
        data_(static_cast<float*>(device.Allocate(static_cast<size_t>(elements) * sizeof(float)))),
        size_(elements) {}
  ~Buffer() {
    if (data_ != nullptr) device_->Free(data_);
  }
  Buffer(Buffer&& other) noexcept { *this = static_cast<Buffer&&>(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  float* data() const { return data_; }
  int64_t size() const { return size_; }

 private:
  Device* device_ = nullptr;
  float* data_ = nullptr;
  int64_t size_ = 0;
};

}  // namespace muster
