#include "cluster/aws_image.h"

#include <absl/strings/str_split.h>
#include <fmt/format.h>

#include <iterator>
#include <utility>

#include "cluster/aws.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

constexpr int64_t kMakeMs = 1'800'000, kLookMs = 5'000;

std::vector<std::string> Words(const Aws& aws, const std::string& region,
                               std::vector<std::string> more) {
  std::vector<std::string> words = AwsWords(aws, region);
  words.emplace_back("ec2");
  std::ranges::move(more, std::back_inserter(words));
  return words;
}

struct Found {
  std::string id, state;  // "" where there is none
};
absl::StatusOr<Found> Find(const Aws& aws, const CloudTool& tool, const std::string& region,
                           const std::string& name) {
  ASSIGN_OR_RETURN(const ToolResult result, tool.Ask(FindImageWords(aws, region, name)));
  const std::vector<std::string> lines = Lines(result.out);
  if (lines.empty()) return Found{};
  const std::vector<std::string> cells = absl::StrSplit(lines.front(), '\t');
  if (cells.size() == 2 && cells[0].starts_with("ami-")) return Found{cells[0], cells[1]};
  return absl::InvalidArgumentError(
      fmt::format("aws tells of an image in another form: {}", lines.front()));
}

}  // namespace

std::vector<std::string> CreateImageWords(const Aws& aws, const Machine& machine,
                                          const std::string& name) {
  const std::string tags = fmt::format(
      "Tags=[{{Key=Name,Value={}}},{{Key=muster-image,Value={}}},{{Key=muster-owner,Value={}}}]",
      name, name, machine.owner);
  return Words(
      aws, machine.place.region,
      {"create-image", "--instance-id", machine.id, "--name", name, "--tag-specifications",
       "ResourceType=image," + tags, "ResourceType=snapshot," + tags, "--query", "ImageId"});
}

std::vector<std::string> FindImageWords(const Aws& aws, const std::string& region,
                                        const std::string& name) {
  return Words(aws, region,
               {"describe-images", "--owners", "self", "--filters",
                fmt::format("Name=name,Values={}", name), "--query", "Images[].[ImageId,State]"});
}

absl::StatusOr<std::string> MakeEc2Image(const Aws& aws, const CloudTool& tool,
                                         const Patience& patience, const Machine& machine,
                                         const std::string& name) {
  const int64_t until = patience.now_ms() + kMakeMs;
  bool made = false;
  while (patience.now_ms() < until) {
    if (!made) {
      const absl::Status asked = tool.Ask(CreateImageWords(aws, machine, name)).status();
      // One that still stops is asked for again.
      if (!asked.ok() && !IsUnasked(asked) && !absl::IsAlreadyExists(asked) &&
          !absl::IsUnavailable(asked)) {
        return asked;
      }
      made = !absl::IsUnavailable(asked);
    }
    const auto found = Find(aws, tool, machine.place.region, name);
    if (IsUnasked(found.status())) return "$IMAGE";
    if (found.ok() && !found->id.empty()) {
      made = true;
      if (found->state == "available") return found->id;
      if (found->state != "pending") {
        return absl::InternalError(fmt::format("image {} ({}) is {}: look at it, and deregister it",
                                               name, found->id, found->state));
      }
    } else if (!found.ok() && !absl::IsUnavailable(found.status())) {
      return found.status();
    }
    if (!patience.pause(kLookMs)) {
      return absl::CancelledError(fmt::format("interrupted; image {} is made all the same", name));
    }
  }
  return absl::DeadlineExceededError(
      fmt::format("image {} is not there after {}", name, FormatDuration(kMakeMs)));
}

}  // namespace muster::cluster
