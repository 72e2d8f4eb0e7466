#include <algorithm>

#include "tests/harness/host_gpu.h"
#include "tests/harness/host_stream.h"

namespace muster::testing {
namespace {

// One call of all ranks: what it does waits until the streams of all of them have come to it.
struct Collective {
  std::vector<std::shared_ptr<Queue>> queues;
  std::vector<int64_t> places;  // of this call in the queues
  std::function<void()> work;
  int failing = -1;  // the rank whose GPU fails instead
  bool done = false;
};

class HostCommunicator final : public Communicator {
 public:
  HostCommunicator(std::vector<const Device*> devices, std::optional<FailingGpu> failing)
      : devices_(std::move(devices)), failing_(failing) {}

  int ranks() const override { return static_cast<int>(devices_.size()); }

  absl::Status ReduceScatter(std::span<muster::Stream* const> streams,
                             std::span<const float* const> send, std::span<float* const> receive,
                             int64_t count) override {
    return ForAll(streams, [send = Copy(send), receive = Copy(receive), count] {
      for (size_t r = 0; r < send.size(); ++r) {
        for (int64_t i = 0; i < count; ++i) {
          const int64_t at = static_cast<int64_t>(r) * count + i;
          float sum = send[0][at];
          for (size_t k = 1; k < send.size(); ++k) sum += send[k][at];
          receive[r][i] = sum;
        }
      }
    });
  }

  absl::Status AllGather(std::span<muster::Stream* const> streams,
                         std::span<const float* const> send, std::span<float* const> receive,
                         int64_t count) override {
    return ForAll(streams, [send = Copy(send), receive = Copy(receive), count] {
      for (float* const to : receive) {
        for (size_t k = 0; k < send.size(); ++k) {
          std::copy_n(send[k], count, to + static_cast<int64_t>(k) * count);
        }
      }
    });
  }

  absl::Status status() override { return *aborted_ ? Aborted() : absl::OkStatus(); }
  void Abort() override { *aborted_ = true; }

 private:
  template <class T>
  static std::vector<T> Copy(std::span<T const> from) {
    return {from.begin(), from.end()};
  }
  static absl::Status Aborted() { return absl::FailedPreconditionError("given up"); }

  absl::Status ForAll(std::span<muster::Stream* const> streams, std::function<void()> work) {
    if (*aborted_) return Aborted();
    CHECK_EQ(streams.size(), devices_.size());
    Streams& shared = static_cast<HostStream*>(streams[0])->streams();
    if (shared.pace == HostGpuPace::kAtOnce) {
      work();
      return absl::OkStatus();
    }
    const auto call = std::make_shared<Collective>();
    call->work = std::move(work);
    if (failing_ && failing_->calls-- == 0) call->failing = failing_->rank;
    MutexLock lock(shared.mu);
    for (size_t r = 0; r < streams.size(); ++r) {
      auto& stream = static_cast<HostStream&>(*streams[r]);
      CHECK(&stream.device() == devices_[r]);
      call->queues.push_back(stream.queue());
      call->places.push_back(stream.queue()->told());
    }
    for (const auto& queue : call->queues) {
      queue->Add([this, call, aborted = aborted_, &shared] {
        if (call->done || *aborted) return true;
        if (call->failing >= 0) {
          shared.failed.push_back(devices_[static_cast<size_t>(call->failing)]);
          call->failing = -1;
        }
        for (size_t r = 0; r < call->queues.size(); ++r) {
          if (!call->queues[r]->RunUntil(call->places[r])) return false;
          if (!call->queues[r]->status().ok()) return false;  // it never comes
        }
        call->work();
        return call->done = true;
      });
    }
    return absl::OkStatus();
  }

  const std::vector<const Device*> devices_;
  std::optional<FailingGpu> failing_;
  const std::shared_ptr<bool> aborted_ = std::make_shared<bool>(false);
};

}  // namespace

std::unique_ptr<Communicator> MakeHostCommunicator(std::vector<const Device*> devices,
                                                   std::optional<FailingGpu> failing) {
  return std::make_unique<HostCommunicator>(std::move(devices), failing);
}

}  // namespace muster::testing
