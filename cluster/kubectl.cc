#include "cluster/kubectl.h"

#include <absl/strings/match.h>
#include <absl/strings/str_split.h>

#include <algorithm>

namespace muster::cluster {
namespace {

// The last line of what is said to people, without the marks before it.
std::string LastLine(const std::string& complaint) {
  std::string last;
  for (const auto part : absl::StrSplit(complaint, '\n', absl::SkipWhitespace())) {
    const std::string line(part.data(), part.size());
    // klog's: "E1122 08:46:45.321511    3817 memcache.go:265] …"
    const bool log = line.size() > 5 && absl::StrContains("EWIF", line[0]) &&
                     std::all_of(line.begin() + 1, line.begin() + 5,
                                 [](char c) { return c >= '0' && c <= '9'; });
    if (!log && !line.starts_with("command terminated with")) last = line;
  }
  for (const std::string_view prefix :
       {"error: ", "Error from server (Forbidden): ", "Error from server (NotFound): ",
        "Error from server: ", "The request is invalid: "}) {
    if (last.starts_with(prefix)) last = last.substr(prefix.size());
  }
  return last;
}

}  // namespace

std::vector<std::string> KubectlWords(const Kubernetes& kubernetes,
                                      const std::vector<std::string>& more) {
  std::vector<std::string> words = {"kubectl"};
  if (!kubernetes.context().empty()) words.push_back("--context=" + kubernetes.context());
  if (!kubernetes.namespace_().empty()) words.push_back("--namespace=" + kubernetes.namespace_());
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

absl::Status ExplainKubectl(const std::string& complaint) {
  const std::string last = LastLine(complaint);
  const auto said = [&](const char* text) { return absl::StrContains(complaint, text); };
  if (said("exceeded quota")) {
    return absl::OutOfRangeError(
        last + ": ask for more, or wait for other jobs: kubectl describe resourcequota");
  }
  if (said("did you specify the right host or port") || said("Unable to connect") ||
      said("no such host") || said("i/o timeout") || said("TLS handshake timeout") ||
      said("unexpected EOF") || said("Client.Timeout") || last.ends_with(": EOF")) {
    return absl::UnavailableError(
        last +
        ": is the cluster on, and is it the right one? kubectl config current-context says "
        "which it is, cluster.kubernetes.context names another");
  }
  if (said("must be logged in") || said("Unauthorized") || said("getting credentials")) {
    return absl::UnauthenticatedError(last +
                                      ": log in to the cluster, until kubectl get pods works");
  }
  if (said("context was not found") || (said("context \"") && said("does not exist"))) {
    return absl::NotFoundError(
        last + ": write one that kubectl config get-contexts lists in cluster.kubernetes.context");
  }
  if (said("namespaces \"") && said("not found")) {
    return absl::NotFoundError(
        last + ": kubectl create namespace makes one; cluster.kubernetes.namespace names it");
  }
  if (said("Forbidden") || said("forbidden")) {
    return absl::PermissionDeniedError(
        last + ": ask who runs the cluster for the role edit in this namespace");
  }
  if (last.empty()) return absl::UnavailableError("the connection ended");
  return absl::FailedPreconditionError(last);
}

}  // namespace muster::cluster
