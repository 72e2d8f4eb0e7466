// What a job asks of Kubernetes: for each role a headless Service and one indexed Job, whose pods
// are the role's machines; or, where JobSet is installed, one object with all roles.
//
// A pod trains nothing: it holds its node while something runs in it that came by kubectl exec, as
// the launcher's `launch node` does, and ends a minute after that, or when nothing has come for
// half an hour. Pure functions: thread-safe.
#pragma once

#include <string>
#include <vector>

#include "cluster/provider.h"
#include "configs/job.pb.h"

namespace muster::cluster {

// What a role's pods run where neither the job nor cluster.kubernetes.image says: a Debian of the
// C library that the programs are built against, with the shell, tar and gzip that bring them in,
// and little else.
inline constexpr char kDefaultImage[] = "debian:12-slim";

// Labels that everything carries. What is only for reading is an annotation.
inline constexpr char kJobLabel[] = "muster-job";
inline constexpr char kRoleLabel[] = "muster-role";
inline constexpr char kAttemptLabel[] = "muster-attempt";
inline constexpr char kJobIdAnnotation[] = "muster/job-id";
inline constexpr char kOwnerAnnotation[] = "muster/owner";
// The container of every pod.
inline constexpr char kContainer[] = "muster";

// `text` as a DNS label (RFC 1123) of at most `size` characters: itself if it is one, else what can
// be kept of it and a hash of it. PRECONDITION: size >= 10.
std::string DnsLabel(const std::string& text, size_t size);

// The value of kJobLabel for a job.
std::string JobLabel(const std::string& job_id);

// The name of everything that `order` makes, which a role's name completes.
std::string OrderName(const MachineOrder& order);

// What runs a shell script in a pod: tells the pod that somebody has come. The script is the last
// word.
std::vector<std::string> ShellWords(const std::string& script);

// For kubectl apply: one JSON object after the other.
std::string Manifests(const MachineOrder& order, const Kubernetes& kubernetes, bool has_jobsets);

}  // namespace muster::cluster
