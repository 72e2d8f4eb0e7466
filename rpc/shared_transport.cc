#include "rpc/shared_transport.h"

#include <utility>

#include "rpc/shared_end.h"
#include "rpc/shared_places.h"
#include "rpc/shared_regions.h"

namespace muster::rpc {
namespace {

class SharingStream : public Stream {
 public:
  SharingStream(std::shared_ptr<Stream> below, std::shared_ptr<SharedEnd> end)
      : below_(std::move(below)), end_(std::move(end)) {}

  absl::Status Send(Message message) override { return Put(std::move(message), /*flush=*/true); }
  absl::Status Queue(Message message) override { return Put(std::move(message), /*flush=*/false); }
  void Flush() override { end_->Flush(*below_); }
  void Close(absl::Status status) override { end_->Close(*below_, std::move(status)); }
  const Hello& peer() const override { return below_->peer(); }

 private:
  absl::Status Put(Message message, bool flush) {
    return end_->Send(*below_, std::move(message), flush);
  }

  const std::shared_ptr<Stream> below_;
  const std::shared_ptr<SharedEnd> end_;
};

// What the stream below calls.
class SharingHandler : public StreamHandler {
 public:
  explicit SharingHandler(std::shared_ptr<SharedEnd> end) : end_(std::move(end)) {}
  void OnMessage(Message message) override { end_->OnMessage(std::move(message)); }
  void OnBatchEnd() override { end_->OnBatchEnd(); }
  void OnClosed(absl::Status status) override { end_->OnClosed(std::move(status)); }

 private:
  const std::shared_ptr<SharedEnd> end_;
};

class SharedTransportImpl : public SharedTransport {
 public:
  SharedTransportImpl(std::unique_ptr<Transport> inner, std::unique_ptr<SharedRegions> regions,
                      Log& log, SharedOptions options)
      : sharing_(std::make_shared<Sharing>(std::move(regions), log, options.least_bytes)),
        ring_service_(std::move(options.ring_service)),
        inner_(std::move(inner)) {}
  ~SharedTransportImpl() override {
    inner_.reset();
    sharing_->poller.Stop();
  }

  absl::StatusOr<std::unique_ptr<Listener>> Listen(const std::string& address, Hello self,
                                                   Acceptor acceptor) override {
    self.shared_memory = sharing_->regions->name();
    auto sharing_acceptor = [sharing = sharing_, ring = ring_service_,
                             acceptor = std::move(acceptor)](const Hello& peer,
                                                             const std::shared_ptr<Stream>& below)
        -> absl::StatusOr<std::unique_ptr<StreamHandler>> {
      auto end = std::make_shared<SharedEnd>(
          sharing, SharedLink{peer.shared_memory, peer.shared_link}, peer.service == ring);
      ASSIGN_OR_RETURN(auto handler, acceptor(peer, std::make_shared<SharingStream>(below, end)));
      end->SetHandler(std::move(handler));
      end->Begin(below);
      return std::make_unique<SharingHandler>(std::move(end));
    };
    return inner_->Listen(address, std::move(self), std::move(sharing_acceptor));
  }

  absl::StatusOr<std::shared_ptr<Stream>> Connect(const std::string& address, Hello self,
                                                  std::unique_ptr<StreamHandler> handler,
                                                  ConnectLimit limit) override {
    self.shared_memory = sharing_->regions->name();
    const SharedLink link = sharing_->regions->NewLink();
    self.shared_link = link.number;
    auto end = std::make_shared<SharedEnd>(sharing_, link, self.service == ring_service_);
    end->SetHandler(std::move(handler));
    ASSIGN_OR_RETURN(std::shared_ptr<Stream> below,
                     inner_->Connect(address, std::move(self),
                                     std::make_unique<SharingHandler>(end), std::move(limit)));
    end->Begin(below);
    return std::make_shared<SharingStream>(std::move(below), std::move(end));
  }

  std::shared_ptr<std::byte[]> Allocate(size_t size) override {
    std::shared_ptr<std::byte[]> memory = sharing_->regions->Allocate(size);
    return memory != nullptr ? memory : Transport::Allocate(size);
  }

  bool Help(absl::FunctionRef<bool()> done,
            std::chrono::steady_clock::time_point deadline) override {
    return sharing_->poller.Help(done, deadline);
  }
  void WakeHelper() override { sharing_->poller.Wake(); }

  int64_t shared_bytes() const override { return sharing_->bytes; }
  int64_t ring_messages() const override { return sharing_->records; }

 private:
  const std::shared_ptr<Sharing> sharing_;
  const std::string ring_service_;
  std::unique_ptr<Transport> inner_;  // destroyed first: its streams end
};

}  // namespace

absl::StatusOr<std::unique_ptr<SharedTransport>> MakeSharedTransport(
    std::unique_ptr<Transport> inner, Log& log, SharedOptions options) {
  ASSIGN_OR_RETURN(auto regions, SharedRegions::Open(log));
  return std::make_unique<SharedTransportImpl>(std::move(inner), std::move(regions), log,
                                               std::move(options));
}

}  // namespace muster::rpc
