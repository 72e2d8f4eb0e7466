// A stream that only records what is sent on it. Thread-compatible: for tests in one thread.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "ps/peer.h"
#include "ps/wire.h"
#include "rpc/transport.h"

namespace muster::ps {

class FakeStream final : public rpc::Stream {
 public:
  absl::Status Send(rpc::Message message) override {
    sent.push_back(std::move(message));
    return absl::OkStatus();
  }
  void Close(absl::Status /*status*/) override {}
  const rpc::Hello& peer() const override { return hello_; }

  // What was sent since the last call.
  std::vector<rpc::Message> Take() { return std::exchange(sent, {}); }

  std::vector<rpc::Message> sent;

 private:
  rpc::Hello hello_;
};

inline std::vector<float> FloatsOf(const rpc::Message& message) {
  std::vector<float> out(message.payload.size() / sizeof(float));
  CopyFloats(message.payload, out);
  return out;
}

}  // namespace muster::ps
