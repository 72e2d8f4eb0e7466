// Identity: what a process of a job shows to the others over TLS, and knows them by: a certificate
// of the job's own authority, which the launcher makes for each run and keeps the key of.
//
// Value types and free functions: thread-safe. All texts are PEM.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "telemetry/status.h"

namespace muster::rpc {

struct Identity {
  std::string authority;    // the certificate of the job's authority
  std::string certificate;  // this process's, by that authority
  std::string key;          // secret

  // None: streams are not encrypted. Right within one machine alone.
  bool empty() const { return certificate.empty(); }
  bool operator==(const Identity&) const = default;
};

// The name that every certificate of a job is for; who is who is said in the Hello.
inline constexpr char kCertifiedName[] = "muster";

// One text, for an environment variable, and back. "" is the empty identity; what is none fails
// without repeating it.
std::string EncodeIdentity(const Identity& identity);
absl::StatusOr<Identity> ParseIdentity(const std::string& text);

// OK when `certificate` is by `authority` and valid at `now_s` (Unix time); else Unauthenticated,
// saying whether there is none, it has expired, or it is another job's.
absl::Status CheckCertificate(const std::string& certificate, const std::string& authority,
                              int64_t now_s);

// The authority of one run of a job. Thread-compatible. ECDSA over P-256.
class JobAuthority {
 public:
  // Its certificates are valid from an hour before `now_s`, for clocks that differ, until
  // `until_s`.
  static absl::StatusOr<JobAuthority> Make(const std::string& job, int64_t now_s, int64_t until_s);

  // A certificate for the process `name` ("worker-2").
  absl::StatusOr<Identity> Issue(const std::string& name) const;

 private:
  struct Parts;
  explicit JobAuthority(std::shared_ptr<const Parts> parts) : parts_(std::move(parts)) {}
  std::shared_ptr<const Parts> parts_;
};

}  // namespace muster::rpc
