#include "kernels/cuda/nccl_library.h"

#include <dlfcn.h>
#include <fmt/format.h>

#if __has_include(<nccl.h>)
#include <nccl.h>
#endif

namespace muster::gpu {
namespace {

#if __has_include(<nccl.h>)
static_assert(NcclLibrary::kSuccess == ncclSuccess && NcclLibrary::kInProgress == ncclInProgress &&
              NcclLibrary::kFloat32 == ncclFloat32 && NcclLibrary::kSum == ncclSum);
#endif

constexpr char kName[] = "libnccl.so.2";

std::string LoaderError() {
  const char* const error = dlerror();
  return error == nullptr ? "unknown" : error;
}

}  // namespace

absl::StatusOr<NcclLibrary> NcclLibrary::Load() {
  void* const library = dlopen(kName, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return absl::FailedPreconditionError(LoaderError());
  NcclLibrary nccl;
  const char* missing = nullptr;
  const auto find = [&]<class F>(const char* symbol, F*& function) {
    function = reinterpret_cast<F*>(dlsym(library, symbol));
    if (function == nullptr) missing = symbol;
  };
  find("ncclGetVersion", nccl.get_version);
  find("ncclCommInitAll", nccl.init_all);
  find("ncclCommDestroy", nccl.destroy);
  find("ncclCommAbort", nccl.abort);
  find("ncclCommGetAsyncError", nccl.async_error);
  find("ncclGroupStart", nccl.group_start);
  find("ncclGroupEnd", nccl.group_end);
  find("ncclReduceScatter", nccl.reduce_scatter);
  find("ncclAllGather", nccl.all_gather);
  find("ncclGetErrorString", nccl.error_string);
  if (missing != nullptr) {
    return absl::FailedPreconditionError(fmt::format("{} has no {}", kName, missing));
  }
  find("ncclGetLastError", nccl.last_error);
  return nccl;
}

std::string NcclLibrary::Version() const {
  int version = 0;
  if (get_version(&version) != kSuccess) return "?";
  return fmt::format("{}.{}", version / 10000, version % 10000 / 100);
}

absl::Status NcclLibrary::ToStatus(int result, const std::string& what, NcclComm comm) const {
  if (result == kSuccess || result == kInProgress) return absl::OkStatus();
  std::string text = fmt::format("could not {}: NCCL says {}", what, error_string(result));
  const char* const more = last_error == nullptr ? nullptr : last_error(comm);
  if (more != nullptr && *more != '\0') {
    // It logs in lines; this is one.
    text += " (";
    for (const char* c = more; *c != '\0'; ++c) text += *c == '\n' ? ' ' : *c;
    text += ")";
  }
  return absl::InternalError(text);
}

}  // namespace muster::gpu
