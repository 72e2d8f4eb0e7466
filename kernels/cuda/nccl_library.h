// NcclLibrary: the functions of libnccl.so.2, found when they are first wanted: one GPU does
// without them, so the plug-in is built, and loads, where NCCL is not there.
//
// The types are those of its C interface, which is the same since NCCL 2.0: pointers to opaque
// structs, and enumerations. Immutable, thread-safe; what was loaded stays loaded.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <string>

#include "telemetry/status.h"

namespace muster::gpu {

using NcclComm = struct ncclComm*;

struct NcclLibrary {
  static constexpr int kSuccess = 0, kInProgress = 7;  // ncclResult_t
  static constexpr int kFloat32 = 7;                   // ncclDataType_t
  static constexpr int kSum = 0;                       // ncclRedOp_t

  // Fails with what the loader says, or the function that is missing.
  static absl::StatusOr<NcclLibrary> Load();

  // "2.28"; "?" when it does not say.
  std::string Version() const;
  // `what` was to be done: "sum over 4 GPUs". `comm` tells more, and may be null.
  absl::Status ToStatus(int result, const std::string& what, NcclComm comm) const;

  int (*get_version)(int* version);
  int (*init_all)(NcclComm* comms, int count, const int* devices);
  int (*destroy)(NcclComm comm);
  int (*abort)(NcclComm comm);
  int (*async_error)(NcclComm comm, int* error);
  int (*group_start)();
  int (*group_end)();
  int (*reduce_scatter)(const void* send, void* receive, size_t count, int type, int op,
                        NcclComm comm, cudaStream_t stream);
  int (*all_gather)(const void* send, void* receive, size_t count, int type, NcclComm comm,
                    cudaStream_t stream);
  const char* (*error_string)(int result);
  const char* (*last_error)(NcclComm comm);  // null before NCCL 2.13
};

}  // namespace muster::gpu
