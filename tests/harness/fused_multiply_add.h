// Whether this CPU computes what a GPU computes.
#pragma once

namespace muster::testing {

// A CPU without fused multiply-add rounds twice where a GPU rounds once.
inline bool CpuFusesMultiplyAdd() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("fma");
#else
  return true;
#endif
}

}  // namespace muster::testing
