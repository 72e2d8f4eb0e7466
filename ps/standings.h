// Standings: what a client knows of the steps of its replicas where a step counts the first that
// arrive (ps/quorum.h): which gradients are whole, what was decided, and which steps did without.
//
// Thread-compatible. Sends nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string_view>

namespace muster::ps {

class Standings {
 public:
  // A gradient is whole with the ACKs of so many slices.
  explicit Standings(size_t slices) : slices_(slices) {}

  // An ACK of one slice that asks to be told of the last one. True when it is that.
  bool OnAck(int32_t replica, int64_t step);
  // The parameters of `clock` are gone. True when that is worth a question: once for each clock.
  bool OnGone(int64_t clock);
  // The step counts the replicas whose bits are set. False when that, or a later one, is known.
  bool OnDecision(int64_t step, std::string_view bits);

  // A gradient is whole, and it is not known yet whether its step counts it.
  bool waiting() const { return arrived_ > decided_; }
  // The newest step that is known to be decided; -1 when none is.
  int64_t decided() const { return decided_; }
  // Steps up to that one that did without the replica since its first ACK.
  int64_t missed(int32_t replica) const;

 private:
  struct Standing {
    int64_t step = -1;    // that it pushes
    size_t acked = 0;     // slices of it
    int64_t unheard = 0;  // the first step of which it is not known whether it counts the replica
    int64_t missed = 0;   // those before that do not
  };

  const size_t slices_;
  std::map<int32_t, Standing> replicas_;
  int64_t arrived_ = -1;  // the newest step of which a gradient is whole
  int64_t decided_ = -1;
  int64_t gone_ = -1;  // the newest clock whose parameters are gone
};

}  // namespace muster::ps
