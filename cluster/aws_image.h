// Keeping a machine of EC2 as an image.
//
// Pure functions, but for MakeEc2Image, which is as thread-safe as what it is given.
#pragma once

#include <string>
#include <vector>

#include "cluster/cloud_tool.h"
#include "cluster/provider.h"
#include "configs/job.pb.h"
#include "telemetry/status.h"

namespace muster::cluster {

// Has EC2 make it of a machine that has stopped, or is about to, and waits until it can be used:
// "ami-…". A call whose answer was lost is found by the name, which nobody else gives.
absl::StatusOr<std::string> MakeEc2Image(const Aws& aws, const CloudTool& tool,
                                         const Patience& patience, const Machine& machine,
                                         const std::string& name);

std::vector<std::string> CreateImageWords(const Aws& aws, const Machine& machine,
                                          const std::string& name);
// "ami-…<TAB>available".
std::vector<std::string> FindImageWords(const Aws& aws, const std::string& region,
                                        const std::string& name);

// Those of a region that carry the tag muster-image; with a `name` those that are called so, or
// have that id, whoever has made them. A snapshot that has outlived its image is one without an id.
absl::StatusOr<std::vector<KeptImage>> FindEc2Images(const Aws& aws, const CloudTool& tool,
                                                     const std::string& region,
                                                     const std::string& name);
// Of lines "ami-…<TAB>name<TAB>state<TAB>made<TAB>tag<TAB>owner<TAB>GB<TAB>snapshots".
absl::StatusOr<std::vector<KeptImage>> ParseEc2Images(const std::string& text,
                                                      const std::string& region);

// The image, then the snapshots behind it, which cost on without it. OK for what is gone already.
absl::Status DeleteEc2Image(const Aws& aws, const CloudTool& tool, const KeptImage& image);

}  // namespace muster::cluster
