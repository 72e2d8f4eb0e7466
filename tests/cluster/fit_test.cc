// Builds, images and GPUs that do not go together are refused before anything is rented, with the
// line of the job file; what a name does not tell is said to be unknown.
#include "cluster/fit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "cluster/image_facts.h"
#include "cluster/resolve.h"
#include "tests/cluster/toy_module.h"

namespace muster::cluster {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// With CUDA 13 for all GPUs that it knows, as ./dev bundle makes it on Debian 12.
BuildFacts Bundle() {
  return {.glibc = {2, 36},
          .cuda = Version{13, 0},
          .gpu_code = {75, 80, 86, 89, 90, 100, 120},
          .gpu_form = {120}};
}
BuildFacts WithoutGpus() { return {.glibc = {2, 36}}; }

struct Result {
  std::string problems;
  std::vector<std::string> unknown;
};

// Of a job with `cluster` and trainers' machines `type`, line by line.
Result Resolve(const BuildFacts& build, const std::string& cluster,
               const std::string& type = "standard_v100",
               const std::string& training = "device: AUTO") {
  JobDraft draft;
  ReadJobYaml(
      "trainingInput:\n"
      "  scaleTier: CUSTOM\n"
      "  pythonModule: toy\n"
      "  jobDir: jobs/fit\n"
      "  region: us-central1\n"
      "  masterType: " +
          type +
          "\n"
          "training: {" +
          training +
          "}\n"
          "cluster:\n"
          "  " +
          cluster + "\n",
      "job.yaml", &draft);
  ResolveOptions options;
  options.find_module = FindToy;
  options.build = build;
  const auto resolved = ResolveJob(options, &draft);
  return {draft.problems.Text(), resolved ? resolved->unknown : std::vector<std::string>()};
}

constexpr char kAws[] = "{provider: AWS, aws: {image: ami-1}}";

TEST(Fit, GpusThatTheBuildHasNoCodeFor) {
  BuildFacts here = Bundle();
  here.gpu_code = {90};
  here.gpu_form = {90};
  const Result result = Resolve(here, kAws);  // V100: an A10G stands for it
  EXPECT_EQ(result.problems,
            "job.yaml:6:15: trainingInput.masterType: asks for NVIDIA_A10G (sm_86), and this build "
            "has code for sm_90 alone; make the bundle with ./dev bundle, which compiles for all "
            "GPUs of its CUDA\n");
  EXPECT_EQ(Resolve(Bundle(), kAws).problems, "");
  EXPECT_EQ(Resolve(here, kAws, "standard_v100", "device: CPU").problems, "")
      << "they are not used";
  EXPECT_EQ(Resolve(here, kAws, "standard").problems, "") << "there are none";
  EXPECT_THAT(Resolve(WithoutGpus(), kAws).problems,
              HasSubstr("has nothing for GPUs: it was made without a CUDA toolkit"));
}

TEST(Fit, GpusThatCuda13HasLeftBehind) {
  const Result nodes =
      Resolve(Bundle(),
              "{provider: KUBERNETES, kubernetes: {nodeSelector: {nvidia.com/gpu.product: "
              "Tesla-V100-SXM2-16GB}}}");
  EXPECT_EQ(nodes.problems,
            "job.yaml:9:53: cluster.kubernetes.nodeSelector: asks for NVIDIA_TESLA_V100 (sm_70), "
            "and this build's CUDA 13.0 computes on sm_75 and later; write a later GPU, or make a "
            "build with an older CUDA\n");
  EXPECT_THAT(Resolve(Bundle(), "{provider: SLURM, slurm: {constraint: p100&fast}}").problems,
              HasSubstr("cluster.slurm.constraint: asks for NVIDIA_TESLA_P100 (sm_60)"));
  BuildFacts older = Bundle();
  older.cuda = Version{12, 4};
  older.gpu_code = older.gpu_form = {};  // of a build's folder: all that its CUDA knows
  EXPECT_EQ(Resolve(older, "{provider: SLURM, slurm: {constraint: p100&fast}}").problems, "");
  for (const char* fits :
       {"{provider: SLURM, slurm: {constraint: a100}}", "{provider: SLURM, slurm: {constraint: x}}",
        "{provider: KUBERNETES, kubernetes: {nodeSelector: {pool: v100}}}", "{provider: LOCAL}"}) {
    EXPECT_EQ(Resolve(Bundle(), fits).problems, "") << fits;
  }
}

TEST(Fit, Bfloat16OnGpusThatHaveNone) {
  const std::string bf16 = "precision: BF16", t4 = "{provider: SLURM, slurm: {constraint: t4}}";
  EXPECT_EQ(Resolve(Bundle(), t4, "standard_v100", bf16).problems,
            "job.yaml:7:23: training.precision: BF16 begins with sm_80, and "
            "cluster.slurm.constraint asks for NVIDIA_TESLA_T4 (sm_75); write TF32 or FP32, or a "
            "later GPU\n");
  EXPECT_EQ(Resolve(Bundle(), t4).problems, "");
  EXPECT_EQ(Resolve(Bundle(), t4, "standard_v100", "device: CPU, precision: BF16").problems, "");
  EXPECT_EQ(Resolve(Bundle(), kAws, "standard_v100", bf16).problems, "") << "an A10G";
}

TEST(Fit, ImagesWhoseCLibraryIsTooOld) {
  const auto problems = [](const std::string& cluster) {
    return Resolve(WithoutGpus(), cluster, "standard").problems;
  };
  EXPECT_EQ(problems("{provider: AWS, aws: {image: 'resolve:ssm:/aws/service/canonical/ubuntu/"
                     "server/22.04/stable/current/amd64/hvm/ebs-gp2/ami-id'}}"),
            "job.yaml:9:32: cluster.aws.image: Ubuntu 22.04 has glibc 2.35, and this build needs "
            "glibc 2.36 or a newer one; write one of Debian 12, Ubuntu 24.04 or later\n");
  for (const char* old :
       {"{provider: AWS, aws: {image: 'resolve:ssm:/aws/service/debian/release/11/latest/amd64'}}",
        "{provider: AWS, aws: {image: 'resolve:ssm:/aws/service/ami-amazon-linux-latest/"
        "al2023-ami-kernel-default-x86_64'}}",
        "{provider: GCP, gcp: {imageFamily: debian-11}}",
        "{provider: GCP, gcp: {image: rocky-linux-9-v20260101, imageProject: rocky-linux-cloud}}",
        "{provider: KUBERNETES, kubernetes: {image: 'registry:5000/ubuntu:22.04'}}",
        "{provider: KUBERNETES, kubernetes: {image: 'nvidia/cuda:12.2.0-base-ubuntu20.04'}}",
        "{provider: KUBERNETES, kubernetes: {image: 'python:3.9-bullseye'}}"}) {
    EXPECT_THAT(problems(old), HasSubstr("and this build needs glibc 2.36")) << old;
  }
  EXPECT_THAT(problems("{provider: KUBERNETES, kubernetes: {image: 'alpine:3.20'}}"),
              HasSubstr("Alpine has no glibc"));
  for (const char* fits :
       {"{provider: AWS}", "{provider: GCP}", "{provider: KUBERNETES}",
        "{provider: GCP, gcp: {imageFamily: debian-13}}",
        "{provider: GCP, gcp: {imageFamily: ubuntu-2404-lts-amd64, imageProject: ubuntu-os-cloud}}",
        "{provider: KUBERNETES, kubernetes: {image: 'ubuntu:24.04'}}"}) {
    EXPECT_EQ(problems(fits), "") << fits;
  }
}

TEST(Fit, ImagesWithoutADriverOrWithOneThatIsTooOld) {
  EXPECT_EQ(Resolve(Bundle(), "{provider: AWS}").problems,
            "job.yaml:9:3: cluster.aws.image: Debian 12 comes without NVIDIA's driver, which the "
            "GPUs of these machines need; write an image that has it, cluster.installDriver: true, "
            "or training.device: CPU\n");
  const Result installed = Resolve(Bundle(), "{provider: AWS, installDriver: true}");
  EXPECT_EQ(installed.problems, "");
  EXPECT_THAT(installed.unknown, IsEmpty());
  const auto gcp = [](const std::string& family) {
    return Resolve(Bundle(),
                   "{provider: GCP, gcp: {imageProject: ubuntu-os-accelerator-images, "
                   "imageFamily: " +
                       family + "}}");
  };
  EXPECT_THAT(gcp("ubuntu-accelerator-2404-amd64-with-nvidia-570").problems,
              HasSubstr("cluster.gcp.imageFamily: ubuntu-accelerator-2404-amd64-with-nvidia-570 "
                        "has NVIDIA's driver 570, and CUDA 13.0 needs 580 or a later one"));
  const Result fits = gcp("ubuntu-accelerator-2404-amd64-with-nvidia-580");
  EXPECT_EQ(fits.problems, "");
  EXPECT_THAT(fits.unknown, IsEmpty());
  EXPECT_EQ(Resolve(Bundle(), "{provider: AWS}", "standard").problems, "");
}

TEST(Fit, WhatANameDoesNotTellIsSaidToBeUnknown) {
  EXPECT_THAT(Resolve(Bundle(), kAws).unknown,
              ElementsAre("whether ami-1 has glibc 2.36 or a newer one",
                          "whether ami-1 has NVIDIA's driver 580 or a later one"));
  EXPECT_THAT(Resolve(Bundle(), kAws, "standard").unknown,
              ElementsAre("whether ami-1 has glibc 2.36 or a newer one"));
  EXPECT_THAT(Resolve(Bundle(), "{provider: AWS}", "standard").unknown, IsEmpty());
}

// ---- what a build says of itself ---------------------------------------------------------------

TEST(BuildFacts, AreReadFromTheFileBesideThePrograms) {
  const auto facts = ParseBuildFacts(
      R"({"glibc": "2.36", "cuda": "13.0", "gpuArchitectures": ["75-real", "80-real", "90"]})");
  ASSERT_TRUE(facts.ok()) << facts.status();
  EXPECT_EQ(facts->glibc, (Version{2, 36}));
  EXPECT_EQ(facts->cuda, (Version{13, 0}));
  EXPECT_THAT(facts->gpu_code, ElementsAre(75, 80, 90));
  EXPECT_THAT(facts->gpu_form, ElementsAre(90));
  EXPECT_EQ(facts->OldestDriver(), 580);
  for (const int runs : {75, 80, 86, 89, 90, 100, 120}) EXPECT_TRUE(facts->RunsOn(runs)) << runs;
  BuildFacts folder = *facts;
  folder.gpu_code = folder.gpu_form = {};
  EXPECT_TRUE(folder.RunsOn(75) && folder.RunsOn(103));
  EXPECT_FALSE(folder.RunsOn(70));
  for (const int not_on : {37, 60, 70, 72}) EXPECT_FALSE(facts->RunsOn(not_on)) << not_on;
  const std::string none = R"({"glibc": "2.36", "cuda": "", "gpuArchitectures": []})";
  ASSERT_TRUE(ParseBuildFacts(none).ok());
  EXPECT_FALSE(ParseBuildFacts(none)->cuda.has_value());
  for (const char* bad : {"", "[]", "{}", R"({"glibc": "2.36", "cuda": ""})",
                          R"({"glibc": "new", "cuda": "", "gpuArchitectures": []})",
                          R"({"glibc": "2.36", "cuda": "x", "gpuArchitectures": []})",
                          R"({"glibc": "2.36", "cuda": "13.0", "gpuArchitectures": [75]})",
                          R"({"glibc": "2.36", "cuda": "13.0", "gpuArchitectures": "75"})"}) {
    EXPECT_FALSE(ParseBuildFacts(bad).ok()) << bad;
  }
  for (uint64_t seed = 1; seed <= 1000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    std::string text = none;
    for (int i = 0; i < 3; ++i) text[random() % text.size()] = static_cast<char>(random());
    (void)ParseBuildFacts(text).ok();
  }
}

TEST(ImageFacts, OfEveryKindOfName) {
  EXPECT_EQ(Ec2ImageFacts("resolve:ssm:/aws/service/deeplearning/ami/x86_64/"
                          "base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id")
                .system,
            "Ubuntu 24.04");
  EXPECT_FALSE(Ec2ImageFacts("resolve:ssm:/aws/service/deeplearning/ami/x86_64/"
                             "base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id")
                   .driver.has_value());
  EXPECT_EQ(Ec2ImageFacts("ami-0abc").system, "");
  EXPECT_EQ(GceImageFacts("", "").driver, 0);
  EXPECT_EQ(
      GceImageFacts("common-cu128-ubuntu-2204-nvidia-570", "deeplearning-platform-release").driver,
      570);
  EXPECT_EQ(GceImageFacts("mine", "my-project").system, "");
  EXPECT_EQ(ContainerFacts("debian11.example.com/mine:3").system, "") << "the registry's name";
  EXPECT_EQ(ContainerFacts("debian:12-slim").system, "Debian 12");
}

}  // namespace
}  // namespace muster::cluster
