// `launch image`: its verbs; of bake what `launch` takes, and which machine is to be kept under
// which name.
#pragma once

#include <functional>
#include <string>

#include "cluster/command.h"
#include "configs/tiers.h"

namespace muster::cluster {

struct ImageWords {
  std::string image;  // its name
  Role role = Role::kWorker;
};

// Makes the image of a resolved job's machine; returns the exit code.
using BakeJob = std::function<int(const ImageWords& words, const ResolvedJob& resolved,
                                  const Plan& plan, const LaunchFlags& flags)>;

// list and delete: RunKeptImages.
using LookAtImages = std::function<int(const CommandContext& context)>;

// `fresh`: the name of an image that has none.
int RunImageCommand(const CommandContext& context, const std::string& fresh, const BakeJob& bake,
                    const LookAtImages& look);

}  // namespace muster::cluster
