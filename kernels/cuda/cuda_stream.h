// CudaStream, CudaEvent and CudaGraph: a CUDA stream with the memory and the handles that ops on it
// use.
//
// As Stream and Event say about threads. Ops return nothing: what one could not enqueue is kept,
// and the next Synchronize tells it.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>

#include <cstddef>

#include "kernels/stream.h"

namespace muster::gpu {

class CudaEvent final : public Event {
 public:
  explicit CudaEvent(int device);
  ~CudaEvent() override;
  CudaEvent(const CudaEvent&) = delete;
  CudaEvent& operator=(const CudaEvent&) = delete;

  bool Done() const override;
  absl::Status Synchronize() override;
  cudaEvent_t get() const { return event_; }

 private:
  const int device_;
  cudaEvent_t event_ = nullptr;
};

class CudaGraph final : public Graph {
 public:
  explicit CudaGraph(cudaGraphExec_t graph) : graph_(graph) {}
  ~CudaGraph() override;
  CudaGraph(const CudaGraph&) = delete;
  CudaGraph& operator=(const CudaGraph&) = delete;

  void Launch(Stream& stream) override;

 private:
  const cudaGraphExec_t graph_;
};

class CudaStream final : public Stream {
 public:
  // `captures`: whether BeginCapture is to be used.
  CudaStream(Device& device, int index, bool captures);
  ~CudaStream() override;
  CudaStream(const CudaStream&) = delete;
  CudaStream& operator=(const CudaStream&) = delete;

  void Record(Event& event) override;
  void Wait(const Event& event) override;
  absl::Status Synchronize() override;
  bool captures() const override { return captures_; }
  absl::Status BeginCapture() override;
  absl::StatusOr<std::unique_ptr<Graph>> EndCapture() override;

  // Makes the stream's device the calling thread's, and returns the stream.
  cudaStream_t Use();
  // Keeps the first error until Synchronize, or EndCapture: that of what it captures is its own.
  void Keep(const absl::Status& status);
  // `bytes` of device memory, until the next call; aligned to 256. Null when there is none left,
  // which is kept. The stream's work is done before it moves.
  void* Scratch(size_t bytes);
  // A second such area, for what libraries want beside the first.
  void* Workspace(size_t bytes);
  // Made when first asked for; null when that failed, which is kept.
  cudnnHandle_t cudnn();

 private:
  struct Area {
    void* data = nullptr;
    size_t bytes = 0;
  };
  void* Grow(Area& area, size_t bytes);

  const int index_;
  const bool captures_;
  cudaStream_t stream_ = nullptr;
  cudnnHandle_t cudnn_ = nullptr;
  Area scratch_, workspace_;
  absl::Status status_;
  bool capturing_ = false;
  absl::Status captured_;  // of what was told since BeginCapture
};

}  // namespace muster::gpu
