// PushQueue: a client's pushes to one server, those that wait for credit and those that wait for
// their ACK. Earlier steps go first, then what the next forward uses first. The credit is each
// replica's own, so that one replica's held gradients never keep back another's whose turn it is
// (both may be leases of one process).
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
  // Bytes that a replica may have in flight, one push at least; how long an ACK may take.
  PushQueue(int64_t credit_bytes, std::chrono::milliseconds ack_timeout)
      : credit_bytes_(credit_bytes), ack_timeout_(ack_timeout) {}

  // The lowest `priority` of a step goes first.
  void Add(int priority, rpc::Message push);
  // The most urgent push among the replicas that have credit, which is in flight from now on. False
  // when there is none.
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
    bool operator<(const Queued& other) const {  // std::priority_queue pops the greatest
      return std::tie(message.header.step, priority, sequence) >
             std::tie(other.message.header.step, other.priority, other.sequence);
    }
  };
  // Of one replica.
  struct Lane {
    std::priority_queue<Queued> queue;
    int64_t in_flight_bytes = 0;
  };

  const int64_t credit_bytes_;
  const std::chrono::milliseconds ack_timeout_;
  std::map<uint32_t, Lane> lanes_;  // by replica
  std::list<InFlight> in_flight_;   // oldest first, which is about the order of the ACKs
  int64_t queued_bytes_ = 0;
  uint64_t sequence_ = 0;
};

}  // namespace muster::ps
