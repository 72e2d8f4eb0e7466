#include "cluster/tf_config.h"

#include <nlohmann/json.hpp>

namespace muster::cluster {
namespace {

using Json = nlohmann::ordered_json;

// A port that is not known when the role starts.
constexpr const char* kLater = "localhost:0";

}  // namespace

std::string TfConfig(const TfCluster& cluster, const std::string& role, int index) {
  Json json = {{"job", {{"job_name", cluster.job_name}, {"args", cluster.args}}},
               {"task", Json::object()},
               {"cluster", Json::object()},
               {"environment", "cloud"}};
  if (cluster.workers + cluster.servers > 0) {
    const char* master = cluster.use_chief ? "chief" : "master";
    const bool is_master = role == "master" || role == "chief";
    json["task"] = {{"type", is_master ? master : role}, {"index", index}};
    json["cluster"][master] = {cluster.master_address.empty() ? kLater : cluster.master_address};
    if (cluster.servers > 0) {
      json["cluster"]["ps"] =
          std::vector<std::string>(static_cast<size_t>(cluster.servers), kLater);
    }
    if (cluster.workers > 0) {
      json["cluster"]["worker"] =
          std::vector<std::string>(static_cast<size_t>(cluster.workers), kLater);
    }
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace muster::cluster
