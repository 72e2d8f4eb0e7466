// Stream, Event and Graph: the order in which a device works.
//
// Ops on one stream run one after the other; ops on different streams only as events say. On cpu a
// stream runs each op at once on the calling thread, so every event is complete when recorded. A
// Stream is owned and used by one thread; an Event may be waited for by any. Both are made by their
// Device, which outlives them.
#pragma once

#include <memory>

#include "telemetry/status.h"

namespace muster {

class Device;
class Stream;

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

// Work that a stream was told while it captured. Owned and used by the stream's thread. What it
// works on is there as long as it is launched; it may go while it is under way.
class Graph {
 public:
  virtual ~Graph() = default;
  // Does the work again, behind what `stream`, of the same device, was told before.
  virtual void Launch(Stream& stream) = 0;
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

  // Whether the device captures graphs.
  virtual bool captures() const { return false; }
  // What the stream is told until EndCapture is kept instead of done: ops and copies within the
  // device. Meanwhile it has nothing to do with events and is not synchronized, and its thread
  // neither allocates nor frees memory of the device. Fails when the device does.
  virtual absl::Status BeginCapture() { return absl::UnimplementedError("no graphs here"); }
  // What was kept. Fails when something of it cannot be captured: then nothing of it has any
  // effect, and the stream goes on as if it had not been told.
  virtual absl::StatusOr<std::unique_ptr<Graph>> EndCapture() {
    return absl::UnimplementedError("no graphs here");
  }

 private:
  Device& device_;
};

}  // namespace muster
