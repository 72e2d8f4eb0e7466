// Sites: what a job can run on besides this machine, one for each provider, as tests of all of them
// see it.
//
// Owned by the test's thread; everything is gone with the object.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

namespace muster::e2e {

class Site {
 public:
  virtual ~Site() = default;
  // Why there is none; "" when it is there.
  virtual std::string problem() const = 0;
  // `cluster` of a job file, in flow style.
  virtual std::string cluster() const = 0;
  // What launch and the provider's tools need. `home`: of who launches.
  virtual std::map<std::string, std::string> environment(const std::string& home) const = 0;
  // What of jobs the provider still holds, in its words: none when all is given back.
  virtual std::vector<std::string> Held() const = 0;
  // Whether what a killed launcher has left is given back by `launch gc` (and otherwise by itself).
  virtual bool rents() const { return true; }
  // Whether roles begin in the folder that launch runs in.
  virtual bool keeps_folder() const { return false; }
};

struct SiteKind {
  const char* name;  // of the provider
  std::unique_ptr<Site> (*make)();
};
// For messages.
inline void PrintTo(const SiteKind& kind, std::ostream* out) { *out << kind.name; }
const std::vector<SiteKind>& SiteKinds();

}  // namespace muster::e2e
