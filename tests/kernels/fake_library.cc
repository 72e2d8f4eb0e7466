// What fake_plugin.cc needs; and, as NCCL, it has a version.
extern "C" int fake_library() { return 1; }
extern "C" int ncclGetVersion(int* version) {
  *version = 22809;
  return 0;
}
