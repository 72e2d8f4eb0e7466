#include "cluster/disk_price.h"

#include <fmt/format.h>

#include <algorithm>

#include "telemetry/check.h"

namespace muster::cluster {
namespace {

// Lists of 2026-06. The kinds are those that machines are made with.
struct Row {
  Cluster::Provider provider;
  const char *kind, *region;
  double usd_per_gb_month;
  int64_t (*size_gb)(const Cluster& cluster);
};
constexpr Row kRows[] = {
    {Cluster::AWS, "gp3", "us-east-1", 0.08,
     [](const Cluster& cluster) { return cluster.aws().disk_gb(); }},
    {Cluster::GCP, "pd-balanced", "us-central1", 0.10,
     [](const Cluster& cluster) { return cluster.gcp().disk_gb(); }},
};

}  // namespace

std::string DisksText(const Cluster& cluster, int64_t disks, const std::string& region) {
  const Row* row = std::ranges::find(kRows, cluster.provider(), &Row::provider);
  CHECK(row != std::end(kRows));
  const int64_t size = row->size_gb(cluster);
  const std::string count = fmt::format("{} disk{}", disks, disks == 1 ? "" : "s");
  const std::string rate =
      fmt::format("{} at ${:.2f} per GB, {}", row->kind, row->usd_per_gb_month, row->region);
  const bool priced = region.empty() || region == row->region;
  if (size == 0) {
    return fmt::format("{} of the image's own size, each month {}{}", count, rate,
                       priced ? "" : fmt::format("; the price in {} is not known here", region));
  }
  if (!priced) {
    return fmt::format("{} of {} GB; what they cost in {} is not known here ({})", count, size,
                       region, rate);
  }
  return fmt::format("{} of {} GB, about ${:.2f} a month ({})", count, size,
                     static_cast<double>(disks * size) * row->usd_per_gb_month, rate);
}

}  // namespace muster::cluster
