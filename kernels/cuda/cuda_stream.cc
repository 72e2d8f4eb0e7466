#include "kernels/cuda/cuda_stream.h"

#include <fmt/format.h>

#include <algorithm>

#include "kernels/cuda/cuda_status.h"

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

CudaStream::CudaStream(Device& device, int index) : Stream(device), index_(index) {
  cudaSetDevice(index_);
  Keep(ToStatus(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking),
                fmt::format("make a stream on /gpu:{}", index_)));
}

CudaStream::~CudaStream() {
  cudaSetDevice(index_);
  if (stream_ != nullptr) cudaStreamSynchronize(stream_);
  if (cudnn_ != nullptr) cudnnDestroy(cudnn_);
  cudaFree(scratch_.data);
  cudaFree(workspace_.data);
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

cudaStream_t CudaStream::Use() {
  cudaSetDevice(index_);
  return stream_;
}

void CudaStream::Keep(const absl::Status& status) {
  if (status_.ok()) status_ = status;
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

void* CudaStream::Grow(Area& area, size_t bytes) {
  if (bytes <= area.bytes) return area.data;
  Keep(ToStatus(cudaStreamSynchronize(Use()), "finish before memory moves"));
  cudaFree(area.data);
  area = {};
  const size_t rounded = std::max<size_t>(bytes, 1 << 20);
  const cudaError_t error = cudaMalloc(&area.data, rounded);
  if (error != cudaSuccess) {
    Keep(ToStatus(error, fmt::format("allocate {} bytes on /gpu:{} (a smaller batch needs less)",
                                     rounded, index_)));
    area = {};
    return nullptr;
  }
  area.bytes = rounded;
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
