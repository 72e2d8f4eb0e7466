#include "cluster/aws_image.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <fmt/format.h>

#include <algorithm>
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

std::string Tag(const char* key) { return fmt::format("Tags[?Key==`{}`].Value|[0]", key); }

// What aws prints for null.
std::string OrNone(const std::string& text) { return text == "None" ? "" : text; }

std::vector<std::string> ImagesWords(const Aws& aws, const std::string& region,
                                     const std::string& name) {
  const char* kDisks = "(BlockDeviceMappings||`[]`)[].Ebs";
  return Words(aws, region,
               {"describe-images", "--owners", "self", "--filters",
                name.empty()               ? std::string("Name=tag-key,Values=muster-image")
                : name.starts_with("ami-") ? "Name=image-id,Values=" + name
                                           : "Name=name,Values=" + name,
                "--query",
                fmt::format("Images[].[ImageId,Name,State,CreationDate,{},{},sum({}.VolumeSize),"
                            "join(',',{}.SnapshotId)]",
                            Tag("muster-image"), Tag("muster-owner"), kDisks, kDisks)});
}

// "snap-…<TAB>name<TAB>state<TAB>made<TAB>tag<TAB>owner<TAB>GB<TAB>snap-…", as of images.
std::vector<std::string> SnapshotsWords(const Aws& aws, const std::string& region,
                                        const std::string& name) {
  const std::string tag = Tag("muster-image");
  return Words(
      aws, region,
      {"describe-snapshots", "--owner-ids", "self", "--filters",
       name.empty() ? std::string("Name=tag-key,Values=muster-image")
                    : "Name=tag:muster-image,Values=" + name,
       "--query",
       fmt::format("Snapshots[].[SnapshotId,{},State,StartTime,{},{},VolumeSize,SnapshotId]", tag,
                   tag, Tag("muster-owner"))});
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

absl::StatusOr<std::vector<KeptImage>> ParseEc2Images(const std::string& text,
                                                      const std::string& region) {
  std::vector<KeptImage> images;
  for (const auto line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
    const std::vector<std::string> cells = absl::StrSplit(line, '\t');
    KeptImage image;
    double gb = 0;
    if (cells.size() != 8 || !(cells[0].starts_with("ami-") || cells[0].starts_with("snap-")) ||
        !absl::SimpleAtod(cells[6], &gb) || !(gb >= 0 && gb < 1e9)) {
      return absl::InvalidArgumentError(fmt::format("aws tells of an image in another form: {}",
                                                    std::string_view(line.data(), line.size())));
    }
    if (cells[0].starts_with("ami-")) image.id = cells[0];
    image.name = OrNone(cells[1]);
    image.region = region;
    image.state = OrNone(cells[2]);
    image.made = OrNone(cells[3]);
    image.ours = !OrNone(cells[4]).empty();
    image.owner = OrNone(cells[5]);
    image.gb = static_cast<int64_t>(gb);
    image.disks = absl::StrSplit(OrNone(cells[7]), ',', absl::SkipEmpty());
    images.push_back(std::move(image));
  }
  return images;
}

absl::StatusOr<std::vector<KeptImage>> FindEc2Images(const Aws& aws, const CloudTool& tool,
                                                     const std::string& region,
                                                     const std::string& name) {
  ASSIGN_OR_RETURN(const ToolResult listed, tool.Ask(ImagesWords(aws, region, name)));
  ASSIGN_OR_RETURN(std::vector<KeptImage> images, ParseEc2Images(listed.out, region));
  ASSIGN_OR_RETURN(const ToolResult snapshots, tool.Ask(SnapshotsWords(aws, region, name)));
  ASSIGN_OR_RETURN(std::vector<KeptImage> alone, ParseEc2Images(snapshots.out, region));
  for (KeptImage& snapshot : alone) {
    const bool has_image = std::ranges::any_of(images, [&](const KeptImage& image) {
      return std::ranges::count(image.disks, snapshot.disks.front()) > 0;
    });
    if (!has_image) images.push_back(std::move(snapshot));
  }
  return images;
}

absl::Status DeleteEc2Image(const Aws& aws, const CloudTool& tool, const KeptImage& image) {
  if (!image.id.empty()) {
    const absl::Status gone =
        tool.Ask(Words(aws, image.region, {"deregister-image", "--image-id", image.id})).status();
    // An earlier call was done, and its answer lost.
    const bool was = gone.message().find("InvalidAMIID.") != absl::string_view::npos;
    if (!gone.ok() && !was) return gone;
  }
  for (const std::string& disk : image.disks) {
    const absl::Status gone =
        tool.Ask(Words(aws, image.region, {"delete-snapshot", "--snapshot-id", disk})).status();
    if (!gone.ok() && !absl::IsNotFound(gone)) return gone;
  }
  return absl::OkStatus();
}

}  // namespace muster::cluster
