// TemporaryFolder: a fresh folder below the system's temporary one (TMPDIR, else /tmp); removed
// with all it holds by the destructor.
//
// Owned by one thread. A program that cannot make one dies.
#pragma once

#include <string>

namespace muster::harness {

class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::string& path() const { return path_; }
  // Leaves the folder where it is.
  void Keep() { keep_ = true; }

 private:
  std::string path_;
  bool keep_ = false;
};

}  // namespace muster::harness
