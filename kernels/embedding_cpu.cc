// The cpu device's rows by ids: gathered by positions, added by columns, so that each part adds in
// the order of positions and none has more to do because many ids are the same.
#include <algorithm>

#include "kernels/op_cpu.h"
#include "kernels/parallel_cpu.h"
#include "kernels/simd_cpu.h"

namespace muster {
namespace {

constexpr int64_t kLeastElements = 65536;  // that several threads share
constexpr int64_t kLine = 16;              // columns of a cache line

}  // namespace

void CpuOps::GatherRows(Stream&, const RowArgs& args, const float* table, float* y) {
  const int64_t width = args.width;
  const int threads = args.n * width < kLeastElements ? 1 : threads_;
  ParallelFor(threads, args.n, [&](int, int64_t begin, int64_t end) {
    simd::CopyRows(end - begin, args.ids + begin, width, table, y + begin * width);
  });
}

void CpuOps::ScatterAddRows(Stream&, const RowArgs& args, const float* dy, float* table) {
  const int64_t width = args.width;
  const int threads = args.n * width < kLeastElements ? 1 : threads_;
  ParallelFor(threads, (width + kLine - 1) / kLine, [&](int, int64_t begin, int64_t end) {
    const int64_t first = begin * kLine, cols = std::min(end * kLine, width) - first;
    simd::AddToRows(args.n, args.ids, width, cols, dy + first, table + first);
  });
}

}  // namespace muster
