#include "cluster/kept_images.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <memory>
#include <set>
#include <utility>

#include "cluster/agree.h"
#include "cluster/printable.h"
#include "cluster/providers.h"
#include "cluster/rented_machine.h"
#include "cluster/signals.h"
#include "configs/scalar.h"
#include "telemetry/time.h"

namespace muster::cluster {
namespace {

bool IsPlain(const std::string& name) {
  return !name.empty() && name[0] != '-' &&
         name.find_first_not_of(
             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") ==
             std::string::npos;
}

// "ami-1 (us-east-1)"
std::string About(const KeptImage& image) {
  const std::string id =
      image.id.empty() ? fmt::format("{}", fmt::join(image.disks, ", ")) : image.id;
  return Printable(image.region.empty() ? id : fmt::format("{} ({})", id, image.region));
}

std::string Regions(const Provider& provider) {
  std::set<std::string> regions;
  for (const Place& place : provider.Places()) {
    if (!place.region.empty()) regions.insert(place.region);
  }
  return regions.empty() ? "" : fmt::format(" in {}", fmt::join(regions, ", "));
}

std::string Table(const std::vector<KeptImage>& images) {
  using Row = std::array<std::string, 7>;
  std::vector<Row> rows = {{"image", "id", "region", "GB", "state", "made", "by"}};
  for (const KeptImage& image : images) {
    const auto cell = [](const std::string& text) { return text.empty() ? "-" : Printable(text); };
    rows.push_back({cell(image.name), image.id.empty() ? "its disk alone" : cell(image.id),
                    cell(image.region), fmt::format("{}", image.gb), cell(image.state),
                    cell(image.made), cell(image.owner)});
  }
  std::array<size_t, 7> widths{};
  for (const Row& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const Row& row : rows) {
    for (size_t i = 0; i + 1 < row.size(); ++i) text += fmt::format("{:<{}}  ", row[i], widths[i]);
    text += row.back() + "\n";
  }
  return text;
}

class Shelf {
 public:
  Shelf(const CommandContext& context, const Cluster& cluster,
        const std::vector<std::string>& environment)
      : context_(context) {
    patience_.now_ms = UnixMillis;
    patience_.pause = [this](int64_t ms) {
      pollfd interrupt{signals_.fd(), POLLIN, 0};
      poll(&interrupt, 1, static_cast<int>(ms));
      return !signals_.Take();
    };
    provider_ = MakeProvider(
        {.cluster = cluster, .tools = MakeToolRunner(environment), .patience = patience_});
  }

  int List() {
    const auto images = provider_->Images("");
    if (!images.ok()) return Fail(images.status(), kJobFailed);
    if (images->empty()) {
      fmt::print(context_.out, "launch image bake has made no image that is still there{}\n",
                 Regions(*provider_));
      return kSucceeded;
    }
    fmt::print(context_.out, "{}each costs until it is deleted: launch image delete NAME\n",
               Table(*images));
    return kSucceeded;
  }

  int Delete(const std::string& name, const LaunchFlags& flags) {
    const auto found = provider_->Images(name);
    if (!found.ok()) return Fail(found.status(), kJobFailed);
    const auto image = Choose(name, *found);
    if (!image.ok()) return Fail(image.status(), kWrongInput);
    const std::string what =
        fmt::format("image {} {}{}", Printable(image->name), About(*image),
                    image->owner.empty() ? "" : " of " + Printable(image->owner));
    if (flags.dry_run) {
      fmt::print(context_.out, "{} would be deleted\n", what);
      return kSucceeded;
    }
    const absl::Status agreed = Agree(
        what, flags.yes, signals_,
        [this](const std::string& line) { fmt::print(context_.out, "{}\n", line); }, kDelete);
    if (!agreed.ok()) return Fail(agreed, absl::IsCancelled(agreed) ? kInterrupted : kWrongInput);
    const absl::Status deleted = provider_->DeleteImage(*image);
    if (!deleted.ok()) return Fail(deleted, kJobFailed);
    fmt::print(context_.out, "it is gone\n");
    return kSucceeded;
  }

 private:
  int Fail(const absl::Status& status, int code) const {
    fmt::print(context_.err, "error: {}\n", std::string(status.message()));
    return code;
  }

  // The one that is meant.
  absl::StatusOr<KeptImage> Choose(const std::string& name,
                                   const std::vector<KeptImage>& found) const {
    if (found.empty()) {
      return absl::NotFoundError(
          fmt::format("there is no image {}{}: launch image list shows those that launch image "
                      "bake has made",
                      name, Regions(*provider_)));
    }
    std::vector<KeptImage> ours;
    for (const KeptImage& image : found) {
      if (image.ours) ours.push_back(image);
    }
    if (ours.empty()) {
      const KeptImage& other = found.front();
      const Machine machine{.place = {other.region, ""}};
      return absl::FailedPreconditionError(
          fmt::format("image {} {} was not made by launch image bake, so it is left alone; this "
                      "deletes it: {}",
                      name, About(other), provider_->DeleteImageCommand(machine, other.id)));
    }
    if (ours.size() == 1) return ours.front();
    std::vector<std::string> all;
    for (const KeptImage& image : ours) all.push_back(About(image));
    return absl::InvalidArgumentError(
        fmt::format("{} could be meant by {}: write the id of one, or one region alone",
                    fmt::join(all, ", "), name));
  }

  const CommandContext& context_;
  Signals signals_;
  Patience patience_;
  std::unique_ptr<Provider> provider_;
};

}  // namespace

int RunKeptImages(const CommandContext& context, const std::vector<std::string>& environment) {
  std::vector<std::string> words = context.words;
  const bool deletes = words.front() == "delete";
  words.erase(words.begin());
  std::string name;
  if (deletes) {
    if (words.empty() || !IsPlain(words.front())) {
      fmt::print(
          context.err,
          "write launch image delete NAME --config FILE, with a NAME of launch image list\n");
      return kWrongInput;
    }
    name = words.front();
    words.erase(words.begin());
  }
  JobDraft draft;
  const LaunchFlags flags = ParseLaunchFlags(words, &draft.problems);
  if (!flags.wrong && (flags.config.empty() || ReadJobFile(flags.config, &draft))) {
    ApplyLaunchFlags(flags, &draft);
  }
  const auto cluster = ResolveCluster(&draft);
  if (!cluster) {
    fmt::print(context.err, "{}", draft.problems.Text());
    return kWrongInput;
  }
  if (!RentsByType(cluster->provider())) {
    fmt::print(context.err,
               "only AWS and GCP keep images of machines: name a job file of theirs (--config "
               "FILE), or --provider and --region\n");
    return kWrongInput;
  }
  Shelf shelf(context, *cluster, environment);
  return deletes ? shelf.Delete(name, flags) : shelf.List();
}

}  // namespace muster::cluster
