// What a rented machine's own metadata service says of its end: that the cloud takes it back, and
// when.
//
//   AWS  http://169.254.169.254/latest/meta-data/spot/instance-action, with a token (IMDSv2); 404
//        until there is a notice. The recommendation to rebalance is none: the machine goes on.
//   GCP  http://169.254.169.254/computeMetadata/v1/instance/preempted; TRUE half a minute before
//
// Free functions, thread-safe; AskForNotice blocks for seconds at most. Times are Unix
// milliseconds.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "configs/job.pb.h"

namespace muster::cluster {

inline constexpr char kMetadataAddress[] = "169.254.169.254";
inline constexpr int64_t kNoticePauseMs = 5'000;  // between two questions

struct Notice {
  int64_t ends_ms = 0;  // when the machine is gone
};

// What EC2 answers: {"action": "terminate", "time": "2026-11-22T05:02:00Z"}. None where it is
// something else, or the machine only hibernates.
std::optional<Notice> ParseEc2Notice(std::string_view body);
// What Compute Engine answers: TRUE or FALSE.
std::optional<Notice> ParseGceNotice(std::string_view body, int64_t now_ms);

// Asks the service of this machine at `address` ("HOST" or "HOST:PORT") once. None where there is
// no notice (yet), no such service, or `provider` has no notices.
std::optional<Notice> AskForNotice(Cluster::Provider provider, const std::string& address,
                                   int64_t now_ms);

}  // namespace muster::cluster
