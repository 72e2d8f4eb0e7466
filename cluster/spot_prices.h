// SpotPrices: what spot machines have cost of late, and a folder that keeps it for a day.
//
// Values and pure functions: thread-safe. SpotPriceFolder has no state but its files, which
// several launchers may share. Prices in US dollars per hour, times Unix milliseconds.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cluster/day_folder.h"
#include "telemetry/status.h"

namespace muster::cluster {

// From `since_ms` on, until the next one of its type and zone.
struct SpotPrice {
  std::string type;  // as the provider calls it: "g6.xlarge"
  std::string region, zone;
  int64_t since_ms = 0;
  double usd_per_hour = 0;
  bool operator==(const SpotPrice&) const = default;
};

// A type in one region over the last day.
struct SpotSummary {
  std::string region;
  double least = 0, median = 0, most = 0;  // of all prices that were set
  std::string cheapest_zone;               // now
  double cheapest = 0;                     // there
};

// By region, in the order in which `prices` first name them; regions where the type has none are
// left out.
std::vector<SpotSummary> Summarize(const std::vector<SpotPrice>& prices, const std::string& type);

// The newest price of a type in a zone that was set at `now_ms` or before; the oldest one where
// all are later. None: not known.
std::optional<SpotPrice> PriceAt(const std::vector<SpotPrice>& prices, const std::string& type,
                                 const std::string& zone, int64_t now_ms);

class SpotPriceFolder {
 public:
  explicit SpotPriceFolder(std::string folder) : folder_(std::move(folder)) {}

  // What Keep was given for a type and region less than a day ago. NotFound when there is none, or
  // what is there does not read.
  absl::StatusOr<std::vector<SpotPrice>> Find(const std::string& type, const std::string& region,
                                              int64_t now_ms) const;
  // `prices`: all of this type and region. Fails when it cannot be written.
  absl::Status Keep(const std::string& type, const std::string& region,
                    const std::vector<SpotPrice>& prices, int64_t now_ms) const;

 private:
  // "" where such names make no file's.
  static std::string NameOf(const std::string& type, const std::string& region);

  const DayFolder folder_;
};

}  // namespace muster::cluster
