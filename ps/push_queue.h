// PushQueue: a client's pushes to one server, those that wait for credit and those that wait for
// their ACK. Earlier steps go first, then what the next forward uses first. One push of each
// replica may always be in flight, whatever the others have there, so that a replica whose turn it
// is never waits for those that wait for it (both may be leases of one process, or of two). And no
// replica overtakes an earlier one: a server adds in the order of the replicas, holds what comes
// out of turn, and acknowledges it at once, so who is ahead would get further ahead, in the
// server's memory.
//
// Thread-compatible. Owns the messages that wait.
#pragma once

#include <chrono>
#include <cstdint>
#include <list>
#include <map>
#include <queue>
#include <tuple>
#include <utility>

#include "rpc/message.h"

namespace muster::ps {

class PushQueue {
 public:
  using Clock = std::chrono::steady_clock;
  // Bytes that may be in flight, of each replica one push at least; how long an ACK may take.
  PushQueue(int64_t credit_bytes, std::chrono::milliseconds ack_timeout)
      : credit_bytes_(credit_bytes), ack_timeout_(ack_timeout) {}

  // The lowest `priority` of a step goes first.
  void Add(int priority, rpc::Message push);
  // The most urgent push among those that may go, which is in flight from now on. False when there
  // is none.
  bool Take(rpc::Message& push);
  // An ACK came: its push's credit returns. False when no such push is in flight.
  bool Acknowledge(const rpc::Header& ack);
  // Drops what waits for credit.
  void Clear();

  // Of what waits for credit.
  int64_t queued_bytes() const { return queued_bytes_; }
  struct InFlight {
    uint32_t slice, replica;
    int64_t step;
    int64_t bytes;
    Clock::time_point deadline;  // of its ACK
  };
  // The one that was taken first; null when none is in flight.
  const InFlight* oldest() const { return in_flight_.empty() ? nullptr : &in_flight_.front(); }

 private:
  struct Queued {
    int priority;
    uint64_t sequence;
    rpc::Message message;
    // Whether it goes before `other`, of a later replica: another slice of the same urgency may be
    // the same one.
    bool Precedes(const Queued& other) const {
      return std::tie(message.header.step, priority) <=
             std::tie(other.message.header.step, other.priority);
    }
    bool operator<(const Queued& other) const {  // std::priority_queue pops the greatest
      return std::tie(message.header.step, priority, sequence) >
             std::tie(other.message.header.step, other.priority, other.sequence);
    }
  };
  // Of one replica.
  struct Lane {
    std::priority_queue<Queued> queue;
    int in_flight = 0;  // pushes
  };

  const int64_t credit_bytes_;
  const std::chrono::milliseconds ack_timeout_;
  std::map<uint32_t, Lane> lanes_;  // by replica
  std::list<InFlight> in_flight_;   // oldest first, which is about the order of the ACKs
  int64_t queued_bytes_ = 0;
  int64_t in_flight_bytes_ = 0;
  uint64_t sequence_ = 0;
};

}  // namespace muster::ps
