#include "tests/harness/mortal_transport.h"

#include <utility>

namespace muster::harness {
namespace {

const absl::Status& Dead() {
  static const auto& status = *new absl::Status(absl::UnavailableError("its process was killed"));
  return status;
}

void CloseAll(const std::vector<std::weak_ptr<rpc::Stream>>& streams, const absl::Status& why) {
  for (const auto& weak : streams) {
    if (const auto stream = weak.lock()) stream->Close(why);
  }
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

void MortalTransport::Plan(Planned planned, int64_t messages) {
  MutexLock lock(mu_);
  planned_ = planned;
  left_ = messages;
}

void MortalTransport::Cut(int64_t messages) {
  Plan(Planned::kCut, messages);
  if (messages == 0) CutAll();
}

void MortalTransport::Break(int64_t messages) {
  Plan(Planned::kBreak, messages);
  if (messages == 0) BreakParams();
}

bool MortalTransport::is_cut() const {
  MutexLock lock(mu_);
  return cut_;
}

absl::StatusOr<std::shared_ptr<rpc::Stream>> MortalTransport::Connect(
    const std::string& address, rpc::Hello self, std::unique_ptr<rpc::StreamHandler> handler,
    rpc::ConnectLimit limit) {
  if (is_cut()) return Dead();
  const bool params = self.service == "params";
  ASSIGN_OR_RETURN(auto stream,
                   inner_.Connect(address, std::move(self), std::move(handler), std::move(limit)));
  auto cuttable = std::make_shared<CuttableStream>(*this, stream);
  bool late = false;
  {
    MutexLock lock(mu_);
    streams_.push_back(stream);
    if (params) params_.push_back(stream);
    late = cut_;
  }
  if (late) stream->Close(Dead());
  return cuttable;
}

bool MortalTransport::OnSend() {
  bool cut = false;
  {
    MutexLock lock(mu_);
    if (cut_) return false;
    if (planned_ == Planned::kNothing || left_-- > 0) return true;
    cut = planned_ == Planned::kCut;
  }
  if (!cut) {
    BreakParams();
    return true;
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
  CloseAll(streams, Dead());
}

void MortalTransport::BreakParams() {
  std::vector<std::weak_ptr<rpc::Stream>> streams;
  {
    MutexLock lock(mu_);
    planned_ = Planned::kNothing;
    streams.swap(params_);
  }
  CloseAll(streams, absl::UnavailableError("the connection broke"));
}

}  // namespace muster::harness
