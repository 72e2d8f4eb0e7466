// Stream and Event: the order in which a device works.
//
// Ops on one stream run one after the other; ops on different streams only as events say. On cpu a
// stream runs each op at once on the calling thread, so every event is complete when recorded. A
// Stream is owned and used by one thread; an Event may be waited for by any. Both are made by their
// Device, which outlives them.
#pragma once

#include "telemetry/status.h"

namespace muster {

class Device;

// A point in a stream.
class Event {
 public:
  virtual ~Event() = default;
  // True when all work before the point is done, when nothing was recorded yet, or when the device
  // has failed, which Synchronize tells.
  virtual bool Done() const = 0;
  // Blocks the calling thread until Done. Fails when the device does.
  virtual absl::Status Synchronize() = 0;
};

class Stream {
 public:
  explicit Stream(Device& device) : device_(device) {}
  virtual ~Stream() = default;

  Device& device() const { return device_; }
  // Sets `event` to this point of the stream; what it stood for before is forgotten.
  virtual void Record(Event& event) = 0;
  // What follows on this stream starts when `event` is done; the host does not wait.
  virtual void Wait(const Event& event) = 0;
  // Blocks the calling thread until everything on the stream is done. Fails when the device does.
  virtual absl::Status Synchronize() = 0;

 private:
  Device& device_;
};

}  // namespace muster
