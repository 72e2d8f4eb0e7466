#include <dnnl.h>
#include <omp.h>

#include "kernels/op_cpu.h"
#include "telemetry/check.h"

namespace muster::cpu {

void MatMul(Stream& stream, const MatMulShape& shape, const float* a, const float* b, float beta,
            float* c) {
  // oneDNN takes its number of threads from OpenMP's setting of the calling thread.
  omp_set_num_threads(stream.device().threads());
  const dnnl_status_t status = dnnl_sgemm(
      shape.trans_a ? 'T' : 'N', shape.trans_b ? 'T' : 'N', shape.m, shape.n, shape.k, 1.0f, a,
      shape.trans_a ? shape.m : shape.k, b, shape.trans_b ? shape.k : shape.n, beta, c, shape.n);
  CHECK_EQ(static_cast<int>(status), static_cast<int>(dnnl_success));
}

}  // namespace muster::cpu
