#include "kernels/cuda/nccl_communicator.h"

#include <fmt/format.h>

#include <utility>
#include <vector>

#include "kernels/cuda/cuda_stream.h"
#include "kernels/cuda/nccl_library.h"
#include "telemetry/check.h"

namespace muster::gpu {
namespace {

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(const NcclLibrary& nccl, std::vector<NcclComm> comms)
      : nccl_(nccl), comms_(std::move(comms)), ranks_(static_cast<int>(comms_.size())) {}
  ~NcclCommunicator() override {
    for (const NcclComm comm : comms_) nccl_.destroy(comm);
  }

  int ranks() const override { return ranks_; }

  absl::Status ReduceScatter(std::span<Stream* const> streams, std::span<const float* const> send,
                             std::span<float* const> receive, int64_t count) override {
    return ForAll("sum", streams, [&](size_t r, cudaStream_t stream) {
      return nccl_.reduce_scatter(send[r], receive[r], static_cast<size_t>(count),
                                  NcclLibrary::kFloat32, NcclLibrary::kSum, comms_[r], stream);
    });
  }

  absl::Status AllGather(std::span<Stream* const> streams, std::span<const float* const> send,
                         std::span<float* const> receive, int64_t count) override {
    return ForAll("gather", streams, [&](size_t r, cudaStream_t stream) {
      return nccl_.all_gather(send[r], receive[r], static_cast<size_t>(count),
                              NcclLibrary::kFloat32, comms_[r], stream);
    });
  }

  absl::Status status() override {
    if (comms_.empty()) return aborted_;
    for (const NcclComm comm : comms_) {
      int error = NcclLibrary::kSuccess;
      RETURN_IF_ERROR(nccl_.ToStatus(nccl_.async_error(comm, &error), What("look at"), comm));
      RETURN_IF_ERROR(nccl_.ToStatus(error, What("communicate between"), comm));
    }
    return absl::OkStatus();
  }

  void Abort() override {
    for (const NcclComm comm : std::exchange(comms_, {})) nccl_.abort(comm);
  }

 private:
  std::string What(const char* verb) const { return fmt::format("{} {} GPUs", verb, ranks_); }

  // One thread calls for all ranks: a call that is not in a group would wait for the others'.
  template <class Call>
  absl::Status ForAll(const char* verb, std::span<Stream* const> streams, const Call& call) {
    if (comms_.empty()) return aborted_;
    CHECK_EQ(streams.size(), comms_.size());
    int result = nccl_.group_start();
    for (size_t r = 0; r < comms_.size() && result == NcclLibrary::kSuccess; ++r) {
      result = call(r, static_cast<CudaStream*>(streams[r])->Use());
    }
    // A group that was begun ends in any case.
    const int ended = nccl_.group_end();
    const std::string what = fmt::format("{} over {} GPUs", verb, ranks_);
    RETURN_IF_ERROR(nccl_.ToStatus(result, what, comms_[0]));
    return nccl_.ToStatus(ended, what, comms_[0]);
  }

  const NcclLibrary nccl_;
  std::vector<NcclComm> comms_;  // by rank; none after Abort
  const int ranks_;
  const absl::Status aborted_ =
      absl::FailedPreconditionError("the communication between the GPUs was given up");
};

}  // namespace

absl::StatusOr<std::unique_ptr<Communicator>> MakeNcclCommunicator(std::span<const int> gpus) {
  ASSIGN_OR_RETURN(const NcclLibrary nccl, NcclLibrary::Load());
  std::vector<NcclComm> comms(gpus.size());
  RETURN_IF_ERROR(
      nccl.ToStatus(nccl.init_all(comms.data(), static_cast<int>(gpus.size()), gpus.data()),
                    fmt::format("connect {} GPUs", gpus.size()), nullptr));
  return std::make_unique<NcclCommunicator>(nccl, std::move(comms));
}

}  // namespace muster::gpu
