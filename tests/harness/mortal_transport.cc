#include "tests/harness/mortal_transport.h"

#include <utility>

namespace muster::harness {
namespace {

const absl::Status& Dead() {
  static const auto& status = *new absl::Status(absl::UnavailableError("its process was killed"));
  return status;
}

}  // namespace

class MortalTransport::CuttableStream final : public rpc::Stream {
 public:
  CuttableStream(MortalTransport& owner, std::shared_ptr<rpc::Stream> inner)
      : owner_(owner), inner_(std::move(inner)) {}
  absl::Status Send(rpc::Message message) override {
    return owner_.OnSend() ? inner_->Send(std::move(message)) : Dead();
  }
  absl::Status Queue(rpc::Message message) override {
    return owner_.OnSend() ? inner_->Queue(std::move(message)) : Dead();
  }
  void Flush() override { inner_->Flush(); }
  void Close(absl::Status status) override { inner_->Close(std::move(status)); }
  const rpc::Hello& peer() const override { return inner_->peer(); }

 private:
  MortalTransport& owner_;
  const std::shared_ptr<rpc::Stream> inner_;
};

void MortalTransport::Cut(int64_t messages) {
  {
    MutexLock lock(mu_);
    left_ = messages;
  }
  if (messages == 0) CutAll();
}

bool MortalTransport::is_cut() const {
  MutexLock lock(mu_);
  return cut_;
}

absl::StatusOr<std::shared_ptr<rpc::Stream>> MortalTransport::Connect(
    const std::string& address, rpc::Hello self, std::unique_ptr<rpc::StreamHandler> handler,
    int64_t timeout_ms) {
  if (is_cut()) return Dead();
  ASSIGN_OR_RETURN(auto stream,
                   inner_.Connect(address, std::move(self), std::move(handler), timeout_ms));
  auto cuttable = std::make_shared<CuttableStream>(*this, stream);
  bool late = false;
  {
    MutexLock lock(mu_);
    streams_.push_back(stream);
    late = cut_;
  }
  if (late) stream->Close(Dead());
  return cuttable;
}

bool MortalTransport::OnSend() {
  {
    MutexLock lock(mu_);
    if (cut_) return false;
    if (left_ < 0 || left_-- > 0) return true;
  }
  CutAll();
  return false;
}

void MortalTransport::CutAll() {
  std::vector<std::weak_ptr<rpc::Stream>> streams;
  {
    MutexLock lock(mu_);
    if (std::exchange(cut_, true)) return;
    streams.swap(streams_);
  }
  for (const auto& weak : streams) {
    if (const auto stream = weak.lock()) stream->Close(Dead());
  }
}

}  // namespace muster::harness
