// Catalog: the machine types and accelerators that a job may name, with their size and price.
//
// The data are configs/machine_types.csv, accelerators.csv and region_factors.csv, put into the
// library when it is built, so a program needs no path. Immutable: thread-safe. Memory in GB,
// prices in US dollars per hour.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "telemetry/status.h"

namespace muster {

struct Price {
  double usd_per_hour = 0;
  std::string date;    // "2019-11"
  std::string source;  // a word that the CSV file explains
};

struct Accelerator {
  std::string name;  // "NVIDIA_TESLA_K80"
  std::optional<Price> price;
  bool is_tpu() const { return name.starts_with("TPU_"); }
};

struct MachineType {
  enum class Category { kLegacy, kComputeEngine, kEc2 };
  std::string name;  // "complex_model_m", "n1-highcpu-16", "c6i.4xlarge"
  Category category = Category::kLegacy;
  std::string shape;  // the Compute Engine type that it is; EC2's: its own name
  int vcpus = 0;
  double memory_gb = 0;
  std::string accelerator;  // built in; "" for none
  int accelerator_count = 0;
  std::optional<Price> price;

  bool is_tpu() const { return accelerator.starts_with("TPU_"); }
};

// What the types of a Compute Engine family cost in a region, over what they cost in the
// catalogue's.
struct RegionFactor {
  std::string family;  // "n1"
  std::string region;
  double factor = 1;
  std::string date;  // "2025-03"
};

class Catalog {
 public:
  // Reads tables in the form of the files. Fails with the line that is wrong.
  static absl::StatusOr<Catalog> Parse(std::string_view machine_types,
                                       std::string_view accelerators,
                                       std::string_view region_factors = "");
  // The tables that were built in.
  static Catalog BuiltIn();

  const MachineType* FindMachineType(std::string_view name) const;  // null when unknown
  const Accelerator* FindAccelerator(std::string_view name) const;  // null when unknown
  const std::vector<MachineType>& machine_types() const { return machine_types_; }
  const std::vector<Accelerator>& accelerators() const { return accelerators_; }
  const std::vector<RegionFactor>& region_factors() const { return region_factors_; }
  std::vector<std::string> MachineTypeNames() const;
  std::vector<std::string> AcceleratorNames() const;

 private:
  std::vector<MachineType> machine_types_;
  std::vector<Accelerator> accelerators_;
  std::vector<RegionFactor> region_factors_;
};

}  // namespace muster
