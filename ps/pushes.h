// Pushes: all that a client pushes, to all of its servers: what waits for credit or company
// (ps/push_queue.h for each server), who sends it, which ACK is overdue, and up to which step
// everything is acknowledged.
//
// A server that owes the parameters for more than any other does is one where this client is ahead
// of other replicas, and the answers wait for those. Where the network is the limit, what it gets
// now would delay what others get: so it waits, while there is something to send elsewhere. Without
// that TCP's shares decide who is ahead, and what travels back starts late by as much.
//
// Thread-compatible. Sends nothing. Owns the messages that wait.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "ps/push_queue.h"
#include "rpc/message.h"

namespace muster::ps {

class Pushes {
 public:
  // Of each server as PushQueue has it.
  Pushes(size_t servers, int64_t credit_bytes, std::chrono::milliseconds ack_timeout)
      : lead_bytes_(credit_bytes / 4),
        servers_(servers, Server{.queue = PushQueue(credit_bytes, ack_timeout)}) {}

  // The lowest `priority` of a step goes first.
  void Add(int server, int priority, rpc::Message push);
  // What is queued for the server shall go as soon as the credit allows.
  void Flush(int server) { At(server).flush = true; }
  // Drops what waits for credit.
  void Clear();

  // Whether the caller shall send to the server: `least_bytes` are queued, or Flush was called, and
  // nobody else sends. It then does, until Take returns false, also what others queue meanwhile; so
  // the order of the queue is the order on the wire.
  bool Begin(int server, int64_t least_bytes);
  // The next push that may go. False when there is none, and others may send.
  bool Take(int server, rpc::Message& push);
  // As Begin for a server whose turn to wait is over; nothing when there is none. To be asked after
  // each Begin or Take that returned false, Acknowledge and Answered.
  std::optional<int> Resume();

  enum class Ack { kNotSent, kTaken, kLastOfStep };
  // The push's credit returns. kLastOfStep: nothing of its step is left to be acknowledged.
  Ack Acknowledge(int server, const rpc::Header& ack);
  // The parameters of `clock` came.
  void Answered(int server, uint32_t slice, int64_t clock);
  // Whether all that was pushed of the steps before `clock` is acknowledged.
  bool AcknowledgedBefore(int64_t clock) const {
    return unfinished_.empty() || unfinished_.begin()->first >= clock;
  }

  struct Due {
    int server = 0;
    const PushQueue::InFlight* push = nullptr;  // null: none is in flight; valid until changed
  };
  // The first whose ACK will be, or is, overdue.
  Due FirstDue() const;

 private:
  struct Server {
    PushQueue queue;
    bool flush = false;
    bool sends = false;  // somebody does
    bool waits = false;  // while others owe less
    // Pushes of owed_step_ whose parameters are still to come: bytes by slice, and their sum.
    std::map<uint32_t, int64_t> owed;
    int64_t owed_bytes = 0;
  };
  // The server owes the parameters for the push.
  void Owe(Server& server, const rpc::Message& push);
  // Whether it owes more than another one that something is queued for, by more than the lead.
  bool IsAhead(const Server& server) const;
  Server& At(int server) { return servers_[static_cast<size_t>(server)]; }

  const int64_t lead_bytes_;
  int64_t owed_step_ = -1;  // the newest that went to any server
  std::vector<Server> servers_;
  std::map<int64_t, int64_t> unfinished_;  // by step: not acknowledged
};

}  // namespace muster::ps
