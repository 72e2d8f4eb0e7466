#include "kernels/cuda/cuda_stream.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/cuda/cuda_status.h"
#include "kernels/device.h"

namespace muster::gpu {

CudaEvent::CudaEvent(int device) : device_(device) {
  cudaSetDevice(device_);
  // One that cannot be made is null, and what it is used for fails.
  if (cudaEventCreateWithFlags(&event_, cudaEventDisableTiming) != cudaSuccess) event_ = nullptr;
}

CudaEvent::~CudaEvent() {
  if (event_ != nullptr) cudaEventDestroy(event_);
}

bool CudaEvent::Done() const {
  const cudaError_t error = cudaEventQuery(event_);
  if (error != cudaSuccess) (void)cudaGetLastError();
  return error != cudaErrorNotReady;
}

absl::Status CudaEvent::Synchronize() {
  return ToStatus(cudaEventSynchronize(event_), fmt::format("wait for /gpu:{}", device_));
}

CudaGraph::~CudaGraph() { cudaGraphExecDestroy(graph_); }

void CudaGraph::Launch(Stream& stream) {
  auto& cuda = static_cast<CudaStream&>(stream);
  cuda.Keep(ToStatus(cudaGraphLaunch(graph_, cuda.Use()), "launch a graph"));
}

CudaStream::CudaStream(Device& device, int index, bool captures)
    : Stream(device), index_(index), captures_(captures) {
  cudaSetDevice(index_);
  Keep(ToStatus(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
                fmt::format("make a stream on /gpu:{}", index_)));
}

CudaStream::~CudaStream() {
  cudaSetDevice(index_);
  if (stream_ != nullptr) cudaStreamSynchronize(stream_);
  if (cudnn_ != nullptr) cudnnDestroy(cudnn_);
  for (const Area& area : {scratch_, workspace_}) {
    if (area.data != nullptr) device().Free(area.data, area.bytes);
  }
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

cudaStream_t CudaStream::Use() {
  cudaSetDevice(index_);
  return stream_;
}

void CudaStream::Keep(const absl::Status& status) {
  absl::Status& kept = capturing_ ? captured_ : status_;
  if (kept.ok()) kept = status;
}

void CudaStream::Record(Event& event) {
  Keep(ToStatus(cudaEventRecord(static_cast<CudaEvent&>(event).get(), Use()), "record an event"));
}

void CudaStream::Wait(const Event& event) {
  Keep(ToStatus(cudaStreamWaitEvent(Use(), static_cast<const CudaEvent&>(event).get(), 0),
                "wait for an event"));
}

absl::Status CudaStream::Synchronize() {
  Keep(ToStatus(cudaStreamSynchronize(Use()), fmt::format("finish the work of /gpu:{}", index_)));
  return status_;
}

absl::Status CudaStream::BeginCapture() {
  // Another thread may allocate meanwhile, as a loader's does.
  RETURN_IF_ERROR(ToStatus(cudaStreamBeginCapture(Use(), cudaStreamCaptureModeThreadLocal),
                           "begin to capture a graph"));
  capturing_ = true;
  captured_ = absl::OkStatus();
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Graph>> CudaStream::EndCapture() {
  cudaGraph_t graph = nullptr;
  Keep(ToStatus(cudaStreamEndCapture(Use(), &graph), "capture a graph"));
  cudaGraphExec_t launchable = nullptr;
  if (captured_.ok()) {
    Keep(
        ToStatus(cudaGraphInstantiate(&launchable, graph, 0), "make a graph that can be launched"));
  }
  if (graph != nullptr) cudaGraphDestroy(graph);
  capturing_ = false;
  RETURN_IF_ERROR(captured_);
  return std::make_unique<CudaGraph>(launchable);
}

void* CudaStream::Grow(Area& area, size_t bytes) {
  if (bytes <= area.bytes) return area.data;
  if (capturing_) {
    Keep(absl::InternalError("could not capture a graph: scratch memory would have to grow"));
    return nullptr;
  }
  Keep(ToStatus(cudaStreamSynchronize(Use()), "finish before memory moves"));
  if (area.data != nullptr) device().Free(area.data, area.bytes);
  area = {};
  const size_t rounded = std::max<size_t>(bytes, 1 << 20);
  const absl::StatusOr<void*> memory = device().Allocate(rounded);
  Keep(memory.status());
  if (!memory.ok()) return nullptr;
  area = {*memory, rounded};
  return area.data;
}

void* CudaStream::Scratch(size_t bytes) { return Grow(scratch_, bytes); }
void* CudaStream::Workspace(size_t bytes) { return Grow(workspace_, bytes); }

cudnnHandle_t CudaStream::cudnn() {
  if (cudnn_ != nullptr) return cudnn_;
  const cudaStream_t stream = Use();
  cudnnStatus_t status = cudnnCreate(&cudnn_);
  if (status == CUDNN_STATUS_SUCCESS) status = cudnnSetStream(cudnn_, stream);
  if (status != CUDNN_STATUS_SUCCESS) {
    Keep(ToStatus(status, fmt::format("start cuDNN on /gpu:{}", index_)));
    cudnn_ = nullptr;
  }
  return cudnn_;
}

}  // namespace muster::gpu
