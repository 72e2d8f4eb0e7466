#include "cluster/notice.h"

#include <httplib.h>

#include "master/json_fields.h"

namespace muster::cluster {
namespace {

constexpr time_t kAnswerSeconds = 2;
// Between Compute Engine's notice and the end of a spot machine.
constexpr int64_t kGceNoticeMs = 30'000;

httplib::Client ClientFor(const std::string& address) {
  httplib::Client client("http://" + address);
  client.set_connection_timeout(kAnswerSeconds);
  client.set_read_timeout(kAnswerSeconds);
  client.set_write_timeout(kAnswerSeconds);
  return client;
}

std::optional<Notice> AskEc2(const std::string& address) {
  httplib::Client client = ClientFor(address);
  const auto token = client.Put("/latest/api/token",
                                {{"X-aws-ec2-metadata-token-ttl-seconds", "60"}}, "", "text/plain");
  if (!token || token->status != 200) return std::nullopt;
  const auto said = client.Get("/latest/meta-data/spot/instance-action",
                               {{"X-aws-ec2-metadata-token", token->body}});
  if (!said || said->status != 200) return std::nullopt;
  return ParseEc2Notice(said->body);
}

std::optional<Notice> AskGce(const std::string& address, int64_t now_ms) {
  httplib::Client client = ClientFor(address);
  const auto said =
      client.Get("/computeMetadata/v1/instance/preempted", {{"Metadata-Flavor", "Google"}});
  if (!said || said->status != 200) return std::nullopt;
  return ParseGceNotice(said->body, now_ms);
}

}  // namespace

std::optional<Notice> ParseEc2Notice(std::string_view body) {
  const auto json = master::ParseJsonObject(body);
  if (!json.ok()) return std::nullopt;
  master::Fields fields(*json);
  std::string action;
  Notice notice;
  fields.Read("action", &action);
  fields.ReadTime("time", &notice.ends_ms);
  if (!fields.status().ok() || notice.ends_ms == 0) return std::nullopt;
  if (action != "terminate" && action != "stop") return std::nullopt;
  return notice;
}

std::optional<Notice> ParseGceNotice(std::string_view body, int64_t now_ms) {
  while (!body.empty() && (body.back() == '\n' || body.back() == '\r')) body.remove_suffix(1);
  if (body != "TRUE") return std::nullopt;
  return Notice{now_ms + kGceNoticeMs};
}

std::optional<Notice> AskForNotice(Cluster::Provider provider, const std::string& address,
                                   int64_t now_ms) {
  if (provider == Cluster::AWS) return AskEc2(address);
  if (provider == Cluster::GCP) return AskGce(address, now_ms);
  return std::nullopt;
}

}  // namespace muster::cluster
