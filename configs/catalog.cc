#include "configs/catalog.h"

#include <absl/strings/str_split.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "configs/catalog_data.h"
#include "configs/scalar.h"
#include "telemetry/check.h"

namespace muster {
namespace {

using Row = std::vector<std::string>;

// The lines of a CSV table without comments and blank lines; each must have `columns` cells.
// Quoting is not needed and not known.
absl::StatusOr<std::vector<Row>> Rows(std::string_view text, const char* table, size_t columns) {
  std::vector<Row> rows;
  int number = 0;
  for (const absl::string_view line :
       absl::StrSplit(absl::string_view(text.data(), text.size()), '\n')) {
    ++number;
    if (line.empty() || line[0] == '#') continue;
    Row row = absl::StrSplit(line, ',');
    if (row.size() != columns) {
      return absl::InvalidArgumentError(
          fmt::format("{}:{}: has {} cells; write {}", table, number, row.size(), columns));
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

absl::StatusOr<double> Number(const Row& row, size_t column) {
  Wrong wrong;
  const std::optional<double> value = ParseDouble(row[column], &wrong);
  if (!value || !(*value >= 0)) {
    return absl::InvalidArgumentError(fmt::format("{}, column {}: {} is not a number ≥ 0", row[0],
                                                  column + 1, Quoted(row[column])));
  }
  return *value;
}

// Price, date and source stand side by side; all three or none.
absl::StatusOr<std::optional<Price>> PriceAt(const Row& row, size_t column) {
  if (row[column].empty()) return std::optional<Price>();
  ASSIGN_OR_RETURN(const double usd, Number(row, column));
  if (row[column + 1].empty() || row[column + 2].empty()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: a price without its date and source; write both", row[0]));
  }
  return std::optional<Price>(Price{usd, row[column + 1], row[column + 2]});
}

absl::StatusOr<MachineType> ParseMachineType(const Row& row) {
  MachineType type;
  type.name = row[0];
  constexpr std::pair<std::string_view, MachineType::Category> kCategories[] = {
      {"legacy", MachineType::Category::kLegacy},
      {"gce", MachineType::Category::kComputeEngine},
      {"ec2", MachineType::Category::kEc2}};
  const auto* category = std::ranges::find(
      kCategories, row[1], &std::pair<std::string_view, MachineType::Category>::first);
  if (category == std::end(kCategories)) {
    return absl::InvalidArgumentError(
        fmt::format("{}: category {}; write legacy, gce or ec2", row[0], Quoted(row[1])));
  }
  type.category = category->second;
  type.shape = row[2];
  ASSIGN_OR_RETURN(const double vcpus, Number(row, 3));
  type.vcpus = static_cast<int>(vcpus);
  ASSIGN_OR_RETURN(type.memory_gb, Number(row, 4));
  type.accelerator = row[5];
  ASSIGN_OR_RETURN(const double count, Number(row, 6));
  type.accelerator_count = static_cast<int>(count);
  ASSIGN_OR_RETURN(type.price, PriceAt(row, 7));
  return type;
}

}  // namespace

absl::StatusOr<Catalog> Catalog::Parse(std::string_view machine_types,
                                       std::string_view accelerators,
                                       std::string_view region_factors) {
  Catalog catalog;
  ASSIGN_OR_RETURN(const std::vector<Row> types, Rows(machine_types, "machine_types.csv", 10));
  for (const Row& row : types) {
    ASSIGN_OR_RETURN(MachineType type, ParseMachineType(row));
    catalog.machine_types_.push_back(std::move(type));
  }
  ASSIGN_OR_RETURN(const std::vector<Row> pieces, Rows(accelerators, "accelerators.csv", 4));
  for (const Row& row : pieces) {
    Accelerator accelerator{row[0], {}};
    ASSIGN_OR_RETURN(accelerator.price, PriceAt(row, 1));
    catalog.accelerators_.push_back(std::move(accelerator));
  }
  ASSIGN_OR_RETURN(const std::vector<Row> factors, Rows(region_factors, "region_factors.csv", 5));
  for (const Row& row : factors) {
    RegionFactor factor{.family = row[0], .region = row[1], .date = row[3]};
    ASSIGN_OR_RETURN(factor.factor, Number(row, 2));
    if (factor.factor == 0 || factor.date.empty() || row[4].empty()) {
      return absl::InvalidArgumentError(
          fmt::format("{} in {}: write a factor above 0, its date and its source", row[0], row[1]));
    }
    catalog.region_factors_.push_back(std::move(factor));
  }
  return catalog;
}

Catalog Catalog::BuiltIn() {
  absl::StatusOr<Catalog> catalog = Parse(kMachineTypesCsv, kAcceleratorsCsv, kRegionFactorsCsv);
  CHECK(catalog.ok());
  return *std::move(catalog);
}

const MachineType* Catalog::FindMachineType(std::string_view name) const {
  for (const MachineType& type : machine_types_) {
    if (type.name == name) return &type;
  }
  return nullptr;
}

const Accelerator* Catalog::FindAccelerator(std::string_view name) const {
  for (const Accelerator& accelerator : accelerators_) {
    if (accelerator.name == name) return &accelerator;
  }
  return nullptr;
}

std::vector<std::string> Catalog::MachineTypeNames() const {
  std::vector<std::string> names;
  for (const MachineType& type : machine_types_) names.push_back(type.name);
  return names;
}

std::vector<std::string> Catalog::AcceleratorNames() const {
  std::vector<std::string> names;
  for (const Accelerator& accelerator : accelerators_) names.push_back(accelerator.name);
  return names;
}

}  // namespace muster
