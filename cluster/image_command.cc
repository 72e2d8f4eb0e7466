#include "cluster/image_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "cluster/rented_machine.h"
#include "configs/nearest.h"
#include "configs/scalar.h"

namespace muster::cluster {
namespace {

constexpr char kHelp[] =
    R"(usage: launch image bake [--role ROLE] [--name NAME] FLAGS
       launch image list FLAGS
       launch image delete NAME FLAGS

bake rents one machine of the job that FLAGS describe, as launch takes them (--config FILE, --yes,
--dry-run, …), on AWS or GCP; brings this build's programs there, and NVIDIA's driver where
cluster.installDriver says so; keeps its disk as an image and gives the machine back. ROLE: whose
machine, master, worker or ps; a worker's, where the job has one. NAME: lower-case letters, digits
and '-'. list shows the images that were made so, which cost until they are deleted; delete asks
(--yes: it does not), and takes what lies behind an image along. For both FLAGS say where to look:
--config FILE, or --provider and --region.
)";

constexpr size_t kMostLetters = 63;

bool IsImageName(const std::string& name) {
  return !name.empty() && name.size() <= kMostLetters && name[0] >= 'a' && name[0] <= 'z' &&
         name.back() != '-' &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == std::string::npos;
}

absl::Status TakeWords(std::vector<std::string>* words, ImageWords* image, bool* has_role) {
  words->erase(words->begin());  // bake
  bool has_name = false;
  for (auto word = words->begin(); word != words->end() && *word != "--";) {
    const std::string flag = word->substr(0, word->find('='));
    if (flag != "--role" && flag != "--name") {
      ++word;
      continue;
    }
    std::string value;
    if (word->size() > flag.size()) {
      value = word->substr(flag.size() + 1);
    } else if (word + 1 != words->end()) {
      word = words->erase(word);
      value = *word;
    }
    word = words->erase(word);
    if (std::exchange(flag == "--name" ? has_name : *has_role, true)) {
      return absl::InvalidArgumentError(flag + " is given twice: keep one of them");
    }
    if (flag == "--name") {
      image->image = value;
      continue;
    }
    const auto role = RoleOf(value);
    if (!role || *role == Role::kEvaluator) {
      return absl::InvalidArgumentError(
          fmt::format("{} is no role: write --role master, worker or ps", Quoted(value)));
    }
    image->role = *role;
  }
  if (IsImageName(image->image)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("{} is no name of an image: write at most {} lower-case letters, digits and '-', "
                  "a letter first",
                  Quoted(image->image), kMostLetters));
}

}  // namespace

int RunImageCommand(const CommandContext& context, const std::string& fresh, const BakeJob& bake,
                    const LookAtImages& look) {
  CommandContext inner = context;
  if (std::ranges::count(inner.words, "--help") + std::ranges::count(inner.words, "-h") > 0) {
    fmt::print(context.out, "{}", kHelp);
    return kSucceeded;
  }
  const std::string verb = inner.words.empty() ? "" : inner.words.front();
  if (verb == "list" || verb == "delete") return look(context);
  if (verb != "bake") {
    fmt::print(context.err, "{}\n",
               verb.empty() || verb.starts_with('-')
                   ? "write launch image bake, list or delete; see launch image --help"
                   : fmt::format("launch image does not know {}; {}", Quoted(verb),
                                 WriteNearest(verb, {"bake", "list", "delete"})));
    return kWrongInput;
  }
  ImageWords words{.image = fresh};
  bool has_role = false;
  if (const absl::Status taken = TakeWords(&inner.words, &words, &has_role); !taken.ok()) {
    fmt::print(context.err, "{}\n", std::string(taken.message()));
    return kWrongInput;
  }
  return RunTrain(inner, [&](const ResolvedJob& resolved, const Plan& plan,
                             const LaunchFlags& flags) {
    const auto has = [&](Role role) {
      return std::ranges::count(plan.roles, role, &PlanRole::role) > 0;
    };
    if (!RentsByType(resolved.job.cluster().provider())) {
      fmt::print(context.err,
                 "only machines of AWS and GCP can be kept as an image: write "
                 "cluster.provider\n");
      return kWrongInput;
    }
    if (flags.async) {
      fmt::print(context.err,
                 "--async: launch image bake trains nothing that could be left: delete it\n");
      return kWrongInput;
    }
    if (!has_role && !has(words.role)) words.role = Role::kMaster;
    if (!has(words.role)) {
      fmt::print(context.err, "the job has no {}: write another --role\n", RoleName(words.role));
      return kWrongInput;
    }
    return bake(words, resolved, plan, flags);
  });
}

}  // namespace muster::cluster
