// Bucket: a folder of an object store, s3://BUCKET/PATH or gs://BUCKET/PATH, through the user's own
// aws or gcloud.
//
// Borrows `patience`; as thread-safe as the tool runner that it is given. Calls block as long as
// bytes are on their way.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cluster/bucket_address.h"
#include "cluster/cloud_tool.h"

namespace muster::cluster {

class Bucket {
 public:
  // PRECONDITION: CheckAddress(address).
  Bucket(std::string_view address, ToolRunner tools, const Patience& patience);

  const std::string& address() const { return address_; }  // without a '/' at its end

  // All of them repeat what may pass by itself, and fail with what the store says and what to do.

  // Copies the file `name` into `folder`, in place of what is there. NotFound: there is none.
  absl::Status Fetch(const std::string& name, const std::string& folder) const;
  // Makes `folder` what the bucket has, the lock and temporary files of a job's directory apart.
  absl::Status Bring(const std::string& folder) const;
  // Makes the bucket what `folder` has, likewise. Adds before it removes, so that there is a whole
  // checkpoint at any time.
  absl::Status Send(const std::string& folder) const;

 private:
  absl::Status Copy(const std::string& from, const std::string& to, bool removing) const;

  const std::string address_;
  const bool is_s3_;
  const CloudTool tool_;
};

}  // namespace muster::cluster
