// The table of modules. A new one is a folder beside this file and a line here.
#include <fmt/format.h>

#include "configs/nearest.h"
#include "configs/scalar.h"
#include "worker/module.h"
#include "worker/modules/speech_commands/module.h"

namespace muster::worker {

std::span<const ModuleType* const> Modules() {
  static const ModuleType* const table[] = {
      &SpeechCommandsModule(),
  };
  return table;
}

absl::StatusOr<const ModuleType*> FindModule(const std::string& name) {
  const std::string first = name.substr(0, name.find('.'));
  std::vector<std::string> names;
  for (const ModuleType* module : Modules()) {
    if (module->name == first) return module;
    names.push_back(module->name);
  }
  return absl::NotFoundError(
      fmt::format("no module is called {}; {}", Quoted(first),
                  names.empty() ? "this build has none" : WriteNearest(first, names)));
}

}  // namespace muster::worker
