#include "rpc/inproc_transport.h"

#include <fmt/format.h>

#include <chrono>
#include <map>
#include <utility>

#include "rpc/inproc_stream.h"

namespace muster::rpc {
namespace {

// A listener as Connect sees it.
struct Port {
  Hello self;
  Acceptor acceptor;
  std::shared_ptr<StreamSet> streams = std::make_shared<StreamSet>();
  AtomicCounters counters;
};

// Who listens where. Thread-safe.
class Ports {
 public:
  // Returns the address, or fails when it is taken.
  absl::StatusOr<std::string> Open(const std::string& address, std::shared_ptr<Port> port) {
    MutexLock lock(mu_);
    const std::string name =
        address.ends_with(":0") ? fmt::format("inproc:{}", next_name_++) : address;
    if (!name.starts_with("inproc:")) {
      return absl::InvalidArgumentError(
          fmt::format("cannot listen on '{}' in process: write inproc:0", address));
    }
    if (!ports_.emplace(name, Entry{std::move(port), 0}).second) {
      return absl::AlreadyExistsError(fmt::format("somebody listens on {} already", name));
    }
    changed_.NotifyAll();
    return name;
  }

  // Returns when nobody is within Acquire … Release of `address` any more.
  void Close(const std::string& address) {
    MutexLock lock(mu_);
    const auto it = ports_.find(address);
    it->second.closing = true;
    while (it->second.users > 0) changed_.Wait(mu_);
    ports_.erase(it);
  }

  // Waits until somebody listens on `address`.
  absl::StatusOr<std::shared_ptr<Port>> Acquire(const std::string& address,
                                                const ConnectLimit& limit) {
    using std::chrono::steady_clock;
    const auto deadline = steady_clock::now() + std::chrono::milliseconds(limit.timeout_ms);
    MutexLock lock(mu_);
    for (;;) {
      const auto it = ports_.find(address);
      if (it != ports_.end() && !it->second.closing) {
        ++it->second.users;
        return it->second.port;
      }
      if (limit.given_up && limit.given_up()) return absl::CancelledError(address + ": given up");
      const auto now = steady_clock::now();
      if (now >= deadline) {
        return absl::UnavailableError(fmt::format(
            "nobody listens on {} in this process (waited {} ms)", address, limit.timeout_ms));
      }
      changed_.WaitUntil(mu_, limit.given_up ? std::min(deadline, now + kGivenUpPause) : deadline);
    }
  }
  void Release(const std::string& address) {
    MutexLock lock(mu_);
    --ports_.find(address)->second.users;
    changed_.NotifyAll();
  }

 private:
  struct Entry {
    std::shared_ptr<Port> port;
    int users = 0;  // Connects under way
    bool closing = false;
  };
  Mutex mu_;
  CondVar changed_;
  int next_name_ ABSL_GUARDED_BY(mu_) = 1;
  std::map<std::string, Entry> ports_ ABSL_GUARDED_BY(mu_);
};

class InprocListener : public Listener {
 public:
  InprocListener(Ports& ports, std::string address, std::shared_ptr<Port> port)
      : ports_(ports), address_(std::move(address)), port_(std::move(port)) {}
  ~InprocListener() override {
    ports_.Close(address_);
    port_->streams->CloseAll();
    port_->streams->WaitEmpty();
  }
  const std::string& address() const override { return address_; }
  ListenerCounters counters() const override { return port_->counters.Get(); }

 private:
  Ports& ports_;
  const std::string address_;
  const std::shared_ptr<Port> port_;
};

class InprocTransport : public Transport {
 public:
  ~InprocTransport() override {
    connected_->CloseAll();
    connected_->WaitEmpty();
  }

  absl::StatusOr<std::unique_ptr<Listener>> Listen(const std::string& address, Hello self,
                                                   Acceptor acceptor) override {
    auto port = std::make_shared<Port>();
    port->self = std::move(self);
    port->acceptor = std::move(acceptor);
    ASSIGN_OR_RETURN(std::string name, ports_.Open(address, port));
    return std::make_unique<InprocListener>(ports_, std::move(name), std::move(port));
  }

  absl::StatusOr<std::shared_ptr<Stream>> Connect(const std::string& address, Hello self,
                                                  std::unique_ptr<StreamHandler> handler,
                                                  ConnectLimit limit) override {
    ASSIGN_OR_RETURN(const std::shared_ptr<Port> port, ports_.Acquire(address, limit));
    auto stream = Join(*port, self, std::move(handler));
    ports_.Release(address);
    return stream;
  }

 private:
  absl::StatusOr<std::shared_ptr<Stream>> Join(Port& port, const Hello& self,
                                               std::unique_ptr<StreamHandler> handler) {
    if (absl::Status status = CheckHello(port.self, self); !status.ok()) {
      ++port.counters.refused;
      return status;
    }
    const auto [here, there] =
        InprocEnd::MakePair(dispatcher_, self, connected_, port.self, port.streams);
    auto accepted = port.acceptor(self, there);
    if (!accepted.ok()) {
      ++port.counters.refused;
      here->Abandon(accepted.status());
      there->Abandon(accepted.status());
      return accepted.status();
    }
    ++port.counters.accepted;
    connected_->Add(here);
    port.streams->Add(there);
    there->Start(*std::move(accepted));
    here->Start(std::move(handler));
    return ClosedWhenDropped(here);
  }

  Ports ports_;
  InprocDispatcher dispatcher_;
  const std::shared_ptr<StreamSet> connected_ = std::make_shared<StreamSet>();
};

}  // namespace

std::unique_ptr<Transport> MakeInprocTransport() { return std::make_unique<InprocTransport>(); }

}  // namespace muster::rpc
