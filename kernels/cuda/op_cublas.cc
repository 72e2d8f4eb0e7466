#include <algorithm>
#include <cstdint>
#include <utility>

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/cuda_status.h"
#include "kernels/cuda/cuda_stream.h"

namespace muster::gpu {
namespace {

// What NVIDIA recommends for Hopper.
constexpr size_t kWorkspaceBytes = size_t{32} << 20;

// The power of two, up to 256, that divides all three addresses.
int AlignmentOf(const void* a, const void* b, const void* c) {
  const auto bits = reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b) |
                    reinterpret_cast<uintptr_t>(c) | 256;
  return static_cast<int>(bits & (~bits + 1));
}

absl::Status Checked(cublasStatus_t error) { return ToStatus(error, "prepare a matrix product"); }

// In float32 from memory to memory: what cuBLASLt may round the factors to on the way.
cublasComputeType_t ComputeTypeOf(GpuPrecision precision) {
  switch (precision) {
    case GpuPrecision::kFloat32:
      return CUBLAS_COMPUTE_32F;
    case GpuPrecision::kTf32:
      return CUBLAS_COMPUTE_32F_FAST_TF32;
    case GpuPrecision::kBf16:
      return CUBLAS_COMPUTE_32F_FAST_16BF;
  }
  return CUBLAS_COMPUTE_32F;
}

}  // namespace

// Row-major C = op(A) op(B) is column-major C' = op(B)' op(A)', of which the memory is the same:
// the library is given B as its first factor and A as its second.
struct GemmPlans::Plan {
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;  // the library's
  cublasLtMatmulAlgo_t algorithm = {};

  Plan() = default;
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;
  ~Plan() {
    cublasLtMatrixLayoutDestroy(c);
    cublasLtMatrixLayoutDestroy(b);
    cublasLtMatrixLayoutDestroy(a);
    cublasLtMatmulDescDestroy(operation);
  }

  template <typename T>
  absl::Status Set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    return Checked(cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof(value)));
  }

  absl::Status Prepare(cublasLtHandle_t handle, const GemmShape& s) {
    RETURN_IF_ERROR(
        Checked(cublasLtMatmulDescCreate(&operation, ComputeTypeOf(s.precision), CUDA_R_32F)));
    RETURN_IF_ERROR(Set(CUBLASLT_MATMUL_DESC_TRANSA, s.trans_b ? CUBLAS_OP_T : CUBLAS_OP_N));
    RETURN_IF_ERROR(Set(CUBLASLT_MATMUL_DESC_TRANSB, s.trans_a ? CUBLAS_OP_T : CUBLAS_OP_N));
    if (s.bias) RETURN_IF_ERROR(Set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS));
    const auto layout = [](cublasLtMatrixLayout_t* to, bool trans, int64_t rows, int64_t cols,
                           int64_t ld) {
      if (trans) std::swap(rows, cols);
      return Checked(cublasLtMatrixLayoutCreate(to, CUDA_R_32F, static_cast<uint64_t>(rows),
                                                static_cast<uint64_t>(cols), ld));
    };
    RETURN_IF_ERROR(layout(&a, s.trans_b, s.n, s.k, s.ldb));
    RETURN_IF_ERROR(layout(&b, s.trans_a, s.k, s.m, s.lda));
    RETURN_IF_ERROR(layout(&c, false, s.n, s.m, s.ldc));

    cublasLtMatmulPreference_t preference = nullptr;
    RETURN_IF_ERROR(Checked(cublasLtMatmulPreferenceCreate(&preference)));
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      return cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof(value));
    };
    const auto alignment = static_cast<uint32_t>(s.alignment);
    // No sums by atomic additions, whose order is another one each time.
    const uint32_t reductions =
        CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    cublasLtMatmulHeuristicResult_t result = {};
    int found = 0;
    cublasStatus_t error = set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kWorkspaceBytes});
    for (const auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      if (error == CUBLAS_STATUS_SUCCESS) error = set(attribute, alignment);
    }
    if (error == CUBLAS_STATUS_SUCCESS) {
      error = set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, reductions);
    }
    if (error == CUBLAS_STATUS_SUCCESS) {
      error = cublasLtMatmulAlgoGetHeuristic(handle, operation, a, b, c, c, preference, 1, &result,
                                             &found);
    }
    cublasLtMatmulPreferenceDestroy(preference);
    if (error == CUBLAS_STATUS_SUCCESS && found == 0) error = CUBLAS_STATUS_NOT_SUPPORTED;
    algorithm = result.algo;
    return Checked(error);
  }
};

GemmPlans::GemmPlans(GpuPrecision precision)
    : precision_(precision), status_(ToStatus(cublasLtCreate(&handle_), "start cuBLASLt")) {}

GemmPlans::~GemmPlans() {
  plans_.clear();
  if (handle_ != nullptr) cublasLtDestroy(handle_);
}

absl::StatusOr<const GemmPlans::Plan*> GemmPlans::Find(const GemmShape& shape) {
  MutexLock lock(mu_);
  std::unique_ptr<Plan>& plan = plans_[shape];
  if (plan == nullptr) {
    auto made = std::make_unique<Plan>();
    RETURN_IF_ERROR(made->Prepare(handle_, shape));
    plan = std::move(made);
  }
  return plan.get();
}

void GemmPlans::Run(Stream& stream, const GemmArgs& g) {
  if (g.m == 0 || g.n == 0) return;
  auto& cuda = static_cast<CudaStream&>(stream);
  const GemmShape shape{g.trans_a,
                        g.trans_b,
                        g.m,
                        g.n,
                        g.k,
                        g.lda,
                        g.ldb,
                        g.ldc,
                        g.bias != nullptr,
                        g.float32 ? GpuPrecision::kFloat32 : precision_,
                        AlignmentOf(g.a, g.b, g.c)};
  const cudaStream_t on = cuda.Use();
  const absl::StatusOr<const Plan*> found = Find(shape);
  if (!found.ok()) return cuda.Keep(found.status());
  const Plan& plan = **found;
  // The bias belongs to the call and not to the shape; the operation is this thread's for as long.
  MutexLock lock(mu_);
  if (g.bias != nullptr) {
    const void* bias = g.bias;
    cuda.Keep(Checked(cublasLtMatmulDescSetAttribute(
        plan.operation, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof(bias))));
  }
  cuda.Keep(ToStatus(cublasLtMatmul(handle_, plan.operation, &g.alpha, g.b, plan.a, g.a, plan.b,
                                    &g.beta, g.c, plan.c, g.c, plan.c, &plan.algorithm,
                                    cuda.Workspace(kWorkspaceBytes), kWorkspaceBytes, on),
                     "multiply matrices"));
}

}  // namespace muster::gpu
