// A libcuda.so.1 that says what the environment tells it to: FAKE_CUDA_INIT, FAKE_CUDA_VERSION,
// FAKE_CUDA_COUNT, FAKE_CUDA_COMPUTE; GPUs from FAKE_CUDA_OTHER on have another name.
#include <cstdio>
#include <cstdlib>

namespace {

int Number(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::atoi(text);
}

}  // namespace

extern "C" {

int cuInit(unsigned) { return Number("FAKE_CUDA_INIT", 0); }
int cuDriverGetVersion(int* version) {
  *version = Number("FAKE_CUDA_VERSION", 13000);
  return 0;
}
int cuDeviceGetCount(int* count) {
  *count = Number("FAKE_CUDA_COUNT", 1);
  return 0;
}
int cuDeviceGet(int* device, int ordinal) {
  *device = ordinal;
  return 0;
}
int cuDeviceGetName(char* name, int size, int device) {
  const bool other = device >= Number("FAKE_CUDA_OTHER", 1000);
  std::snprintf(name, static_cast<size_t>(size), other ? "Other GPU" : "Fake GPU");
  return 0;
}
int cuDeviceGetAttribute(int* value, int attribute, int) {
  const int compute = Number("FAKE_CUDA_COMPUTE", 90);
  *value = attribute == 75 ? compute / 10 : compute % 10;
  return 0;
}

}  // extern "C"
