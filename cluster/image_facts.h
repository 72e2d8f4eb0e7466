// ImageFacts: what is known of a machine's or a container's image by its name alone: the C library
// of its system, and whether it has NVIDIA's driver.
//
// Pure functions: thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cluster/build_facts.h"

namespace muster::cluster {

struct ImageFacts {
  std::string system;            // "Ubuntu 22.04"; "": not known
  std::optional<Version> glibc;  // none: not known, or it has no glibc
  bool no_glibc = false;         // it has another C library
  // Of NVIDIA's driver: its major version; 0: it has none. None: not known.
  std::optional<int64_t> driver;
};

// An image of EC2 as the job file names it: "ami-…" tells nothing, "resolve:ssm:PARAMETER" may.
// "": the default, Debian 12.
ImageFacts Ec2ImageFacts(const std::string& image);
// One of Compute Engine, or a family, and its project. "": the default, debian-12 of debian-cloud.
ImageFacts GceImageFacts(const std::string& image, const std::string& project);
// A container's: "registry/ubuntu:22.04". The driver is the node's. "": the default.
ImageFacts ContainerFacts(const std::string& image);

}  // namespace muster::cluster
