#include "cluster/image_facts.h"

#include <absl/strings/ascii.h>

#include <algorithm>
#include <cctype>
#include <string_view>

namespace muster::cluster {
namespace {

struct System {
  std::string_view said;  // a part of an image's name, without '-', '.', ':', '_' and '/'
  const char* name;
  Version glibc;
};
// The first that fits.
constexpr System kSystems[] = {
    {"debian10", "Debian 10", {2, 28}},
    {"debian11", "Debian 11", {2, 31}},
    {"debianrelease11", "Debian 11", {2, 31}},
    {"bullseye", "Debian 11", {2, 31}},
    {"debian12", "Debian 12", {2, 36}},
    {"debianrelease12", "Debian 12", {2, 36}},
    {"bookworm", "Debian 12", {2, 36}},
    {"debian13", "Debian 13", {2, 41}},
    {"debianrelease13", "Debian 13", {2, 41}},
    {"trixie", "Debian 13", {2, 41}},
    {"ubuntu1804", "Ubuntu 18.04", {2, 27}},
    {"ubuntu2004", "Ubuntu 20.04", {2, 31}},
    {"ubuntu2204", "Ubuntu 22.04", {2, 35}},
    {"ubuntu2404", "Ubuntu 24.04", {2, 39}},
    {"ubuntuserver2004", "Ubuntu 20.04", {2, 31}},
    {"ubuntuserver2204", "Ubuntu 22.04", {2, 35}},
    {"ubuntuserver2404", "Ubuntu 24.04", {2, 39}},
    {"ubuntuaccelerator2204", "Ubuntu 22.04", {2, 35}},
    {"ubuntuaccelerator2404", "Ubuntu 24.04", {2, 39}},
    {"al2023", "Amazon Linux 2023", {2, 34}},
    {"amazonlinux2023", "Amazon Linux 2023", {2, 34}},
    {"amzn2", "Amazon Linux 2", {2, 26}},
    {"amazonlinux2", "Amazon Linux 2", {2, 26}},
    {"rockylinux8", "Rocky Linux 8", {2, 28}},
    {"rockylinux9", "Rocky Linux 9", {2, 34}},
    {"almalinux8", "AlmaLinux 8", {2, 28}},
    {"almalinux9", "AlmaLinux 9", {2, 34}},
    {"centosstream9", "CentOS Stream 9", {2, 34}},
    {"centos7", "CentOS 7", {2, 17}},
    {"rhel8", "RHEL 8", {2, 28}},
    {"rhel9", "RHEL 9", {2, 34}},
    {"ubi8", "RHEL 8", {2, 28}},
    {"ubi9", "RHEL 9", {2, 34}},
};

// Whose images are the bare systems, without NVIDIA's driver.
constexpr std::string_view kBareOnEc2[] = {"/aws/service/debian/", "/aws/service/canonical/ubuntu/",
                                           "/aws/service/ami-amazon-linux-latest/"};
constexpr std::string_view kBareOnGce[] = {"debian-cloud", "ubuntu-os-cloud", "rocky-linux-cloud",
                                           "centos-cloud", "rhel-cloud"};
constexpr std::string_view kResolve = "resolve:ssm:";

// In lower case, letters and digits alone.
std::string Squeezed(std::string_view name) {
  std::string squeezed;
  for (const char c : name) {
    const auto letter = static_cast<unsigned char>(c);
    if (std::isalnum(letter) != 0) squeezed += static_cast<char>(std::tolower(letter));
  }
  return squeezed;
}

// "…nvidia-570": a driver that the name tells of.
std::optional<int64_t> DriverOf(std::string_view name) {
  const std::string_view said = "nvidia-";
  for (size_t at = name.find(said); at != name.npos; at = name.find(said, at + 1)) {
    const auto version = ParseVersion(name.substr(at + said.size()));
    if (version && version->major >= 100) return version->major;
  }
  return std::nullopt;
}

ImageFacts FactsOfName(std::string_view name) {
  ImageFacts facts;
  const std::string squeezed = Squeezed(name);
  for (const System& system : kSystems) {
    if (squeezed.find(system.said) == squeezed.npos) continue;
    facts.system = system.name;
    facts.glibc = system.glibc;
    break;
  }
  facts.driver = DriverOf(name);
  return facts;
}

template <class List>
bool BeginsWithOne(std::string_view text, const List& list) {
  return std::ranges::any_of(list, [&](std::string_view head) { return text.starts_with(head); });
}

}  // namespace

ImageFacts Ec2ImageFacts(const std::string& image) {
  if (image.empty()) return {"Debian 12", Version{2, 36}, false, 0};
  if (!image.starts_with(kResolve)) return {};
  const std::string parameter = image.substr(kResolve.size());
  ImageFacts facts = FactsOfName(parameter);
  if (!facts.driver && BeginsWithOne(parameter, kBareOnEc2)) facts.driver = 0;
  return facts;
}

ImageFacts GceImageFacts(const std::string& image, const std::string& project) {
  ImageFacts facts = FactsOfName(image.empty() ? "debian-12" : image);
  const std::string_view from = project.empty() ? std::string_view("debian-cloud") : project;
  if (!facts.driver && std::ranges::count(kBareOnGce, from) > 0) facts.driver = 0;
  return facts;
}

ImageFacts ContainerFacts(const std::string& image) {
  if (image.empty()) return {"Debian 12", Version{2, 36}, false, std::nullopt};
  // Of a registry's name nothing follows.
  const std::string name = image.substr(image.rfind('/') + 1);
  ImageFacts facts = FactsOfName(name);
  facts.driver.reset();
  if (absl::AsciiStrToLower(name).find("alpine") != std::string::npos) {
    facts = {.system = "Alpine", .no_glibc = true};
  }
  return facts;
}

}  // namespace muster::cluster
