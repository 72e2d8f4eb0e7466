#include "cluster/fit.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <string_view>
#include <utility>

#include "cluster/image_facts.h"
#include "cluster/rented_machine.h"
#include "configs/tiers.h"

namespace muster::cluster {
namespace {

struct Gpu {
  std::string_view accelerator;  // of the catalogue
  std::string_view model;        // as people's labels and constraints call it
  int capability;                // times ten
};
constexpr Gpu kGpus[] = {
    {"NVIDIA_TESLA_K80", "k80", 37},   {"NVIDIA_TESLA_P4", "p4", 61},
    {"NVIDIA_TESLA_P100", "p100", 60}, {"NVIDIA_TESLA_V100", "v100", 70},
    {"NVIDIA_TESLA_T4", "t4", 75},     {"NVIDIA_TESLA_A100", "a100", 80},
    {"NVIDIA_A10G", "a10g", 86},       {"NVIDIA_L4", "l4", 89},
    {"NVIDIA_L40S", "l40s", 89},       {"NVIDIA_H100", "h100", 90},
    {"NVIDIA_H200", "h200", 90},       {"NVIDIA_B200", "b200", 100},
};
constexpr int kOldestWithBf16 = 80;
// Roles that compute on GPUs, and where a job file says what their machines are.
struct TrainerFields {
  Role role;
  const char *type, *config;
};
constexpr TrainerFields kTrainers[] = {
    {Role::kMaster, "trainingInput.masterType", "trainingInput.masterConfig"},
    {Role::kWorker, "trainingInput.workerType", "trainingInput.workerConfig"}};
// Labels of nodes that tell of their GPUs: Google's, NVIDIA's and AWS's.
constexpr std::string_view kGpuLabels[] = {
    "cloud.google.com/gke-accelerator", "nvidia.com/gpu.product", "k8s.amazonaws.com/accelerator"};

// The GPU that one of the words of a text names: "Tesla-V100-SXM2-16GB", "v100&fast".
const Gpu* GpuNamedIn(std::string_view text) {
  std::string word;
  const auto named = [&]() -> const Gpu* {
    const auto* gpu = std::ranges::find(kGpus, word, &Gpu::model);
    return gpu == std::end(kGpus) ? nullptr : gpu;
  };
  for (const char c : text) {
    const auto letter = static_cast<unsigned char>(c);
    if (std::isalnum(letter) != 0) {
      word += static_cast<char>(std::tolower(letter));
      continue;
    }
    if (const Gpu* gpu = named()) return gpu;
    word.clear();
  }
  return named();
}

class Checker {
 public:
  Checker(const Job& job, const BuildFacts& build, const Catalog& catalog)
      : job_(job), build_(build), catalog_(catalog) {}

  Fit Run() {
    switch (job_.cluster().provider()) {
      case Cluster::AWS:
        CheckRentedGpus();
        CheckImage("cluster.aws.image", job_.cluster().aws().image(),
                   Ec2ImageFacts(job_.cluster().aws().image()));
        break;
      case Cluster::GCP:
        CheckRentedGpus();
        CheckGceImage(job_.cluster().gcp());
        break;
      case Cluster::KUBERNETES:
        CheckNodes();
        CheckContainers();
        break;
      case Cluster::SLURM:
        if (WantsGpus()) {
          CheckGpu("cluster.slurm.constraint", GpuNamedIn(job_.cluster().slurm().constraint()));
        }
        break;
      default:
        break;
    }
    return std::move(fit_);
  }

 private:
  const TrainingInput& input() const { return job_.training_input(); }
  bool on_cpu() const { return job_.training().device() == Training::CPU; }
  void Add(std::string path, std::string what, std::string write) {
    fit_.misfits.push_back({std::move(path), std::move(what), std::move(write)});
  }

  // Whether a trainer's machine is to have GPUs that it computes on.
  bool WantsGpus() const {
    return !on_cpu() && std::ranges::any_of(kTrainers, [&](const TrainerFields& trainer) {
      return SizeOf(input(), trainer.role).count > 0 &&
             AcceleratorsOf(input(), trainer.role, catalog_).count() > 0;
    });
  }

  void CheckRentedGpus() {
    for (const TrainerFields& trainer : kTrainers) {
      if (on_cpu() || SizeOf(input(), trainer.role).count == 0) continue;
      const auto machine = FindRented(job_.cluster().provider(), input(), trainer.role, catalog_);
      if (!machine.ok() || machine->accelerators == 0) continue;
      rents_gpus_ = true;
      CheckGpu(trainer.type, std::ranges::find(kGpus, machine->accelerator, &Gpu::accelerator));
      if (!fit_.misfits.empty()) return;  // the same again for the other role
    }
  }

  // `gpu`: null or the end of kGpus where it is not known.
  void CheckGpu(const std::string& path, const Gpu* gpu) {
    if (gpu == nullptr || gpu == std::end(kGpus)) return;
    if (!build_.cuda) {
      return Add(
          path,
          fmt::format("asks for {}, and this build has nothing for GPUs: it was made without "
                      "a CUDA toolkit",
                      gpu->accelerator),
          "build it where CUDA and cuDNN are, or write training.device: CPU, or a type "
          "without GPUs");
    }
    if (job_.training().precision() == Training::BF16 && gpu->capability < kOldestWithBf16) {
      return Add("training.precision",
                 fmt::format("BF16 begins with sm_{}, and {} asks for {} (sm_{})", kOldestWithBf16,
                             path, gpu->accelerator, gpu->capability),
                 "write TF32 or FP32, or a later GPU");
    }
    if (build_.RunsOn(gpu->capability)) return;
    if (gpu->capability < build_.OldestGpu()) {
      return Add(path,
                 fmt::format("asks for {} (sm_{}), and this build's CUDA {} computes on sm_{} and "
                             "later",
                             gpu->accelerator, gpu->capability, ToString(*build_.cuda),
                             build_.OldestGpu()),
                 "write a later GPU, or make a build with an older CUDA");
    }
    Add(path,
        fmt::format("asks for {} (sm_{}), and this build has code for sm_{} alone",
                    gpu->accelerator, gpu->capability, fmt::join(build_.gpu_code, ", sm_")),
        "make the bundle with ./dev bundle, which compiles for all GPUs of its CUDA");
  }

  void CheckGceImage(const Gcp& gcp) {
    const bool by_name = !gcp.image().empty();
    const std::string& name = by_name ? gcp.image() : gcp.image_family();
    CheckImage(by_name ? "cluster.gcp.image" : "cluster.gcp.imageFamily", name,
               GceImageFacts(name, gcp.image_project()));
  }

  void CheckLibrary(const std::string& path, const ImageFacts& image) {
    const std::string needs =
        fmt::format("and this build needs glibc {} or a newer one", ToString(build_.glibc));
    if (image.no_glibc) {
      Add(path, fmt::format("{} has no glibc, {}", image.system, needs),
          "write one of Debian 12, Ubuntu 24.04 or later");
    } else if (image.glibc && *image.glibc < build_.glibc) {
      Add(path, fmt::format("{} has glibc {}, {}", image.system, ToString(*image.glibc), needs),
          "write one of Debian 12, Ubuntu 24.04 or later");
    }
  }

  void CheckImage(const std::string& path, const std::string& name, const ImageFacts& image) {
    CheckLibrary(path, image);
    if (!image.glibc) {
      fit_.unknown.push_back(
          fmt::format("whether {} has glibc {} or a newer one", name, ToString(build_.glibc)));
    }
    if (!rents_gpus_ || !build_.cuda || !fit_.misfits.empty()) return;
    const int64_t oldest = build_.OldestDriver();
    const std::string needs =
        fmt::format("CUDA {} needs {} or a later one", ToString(*build_.cuda), oldest);
    const std::string write =
        "write an image that has it, cluster.installDriver: true, or training.device: CPU";
    if (job_.cluster().install_driver()) return;
    if (!image.driver) {
      fit_.unknown.push_back(
          fmt::format("whether {} has NVIDIA's driver {} or a later one", name, oldest));
    } else if (*image.driver == 0) {
      Add(path,
          fmt::format("{} comes without NVIDIA's driver, which the GPUs of these machines need",
                      image.system.empty() ? name : image.system),
          write);
    } else if (*image.driver < oldest) {
      Add(path, fmt::format("{} has NVIDIA's driver {}, and {}", name, *image.driver, needs),
          write);
    }
  }

  void CheckNodes() {
    if (!WantsGpus()) return;
    for (const auto& [label, value] : job_.cluster().kubernetes().node_selector()) {
      if (std::ranges::count(kGpuLabels, label) == 0) continue;
      CheckGpu("cluster.kubernetes.nodeSelector", GpuNamedIn(value));
    }
  }

  void CheckContainers() {
    CheckLibrary("cluster.kubernetes.image", ContainerFacts(job_.cluster().kubernetes().image()));
    for (const TrainerFields& trainer : kTrainers) {
      const std::string& uri = ConfigOf(input(), trainer.role).image_uri();
      if (SizeOf(input(), trainer.role).count == 0 || uri.empty()) continue;
      CheckLibrary(std::string(trainer.config) + ".imageUri", ContainerFacts(uri));
    }
  }

  const Job& job_;
  const BuildFacts& build_;
  const Catalog& catalog_;
  Fit fit_;
  bool rents_gpus_ = false;
};

}  // namespace

Fit CheckFit(const Job& job, const BuildFacts& build, const Catalog& catalog) {
  return Checker(job, build, catalog).Run();
}

}  // namespace muster::cluster
