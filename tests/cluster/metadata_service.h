// MetadataService: EC2's, as a spot machine sees it, with its tokens, at an address of this host.
//
// A server with threads of its own; SetNotice is thread-safe.
#pragma once

#include <httplib.h>

#include <string>
#include <thread>

#include "telemetry/mutex.h"

namespace muster::cluster {

class MetadataService {
 public:
  MetadataService() {
    server_.Put("/latest/api/token", [](const httplib::Request& in, httplib::Response& out) {
      if (!in.has_header("X-aws-ec2-metadata-token-ttl-seconds")) out.status = 400;
      out.set_content("secret", "text/plain");
    });
    server_.Get("/latest/meta-data/spot/instance-action",
                [this](const httplib::Request& in, httplib::Response& out) { Answer(in, out); });
    port_ = server_.bind_to_any_port("127.0.0.1");
    thread_ = std::thread([this] { server_.listen_after_bind(); });
  }
  ~MetadataService() {
    server_.stop();
    thread_.join();
  }
  MetadataService(const MetadataService&) = delete;
  MetadataService& operator=(const MetadataService&) = delete;

  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  // What it says of the machine's end from now on; "": nothing.
  void SetNotice(const std::string& notice) {
    const MutexLock lock(mutex_);
    notice_ = notice;
  }

 private:
  void Answer(const httplib::Request& in, httplib::Response& out) {
    const MutexLock lock(mutex_);
    if (in.get_header_value("X-aws-ec2-metadata-token") != "secret") {
      out.status = 401;
    } else if (notice_.empty()) {
      out.status = 404;
    } else {
      out.set_content(notice_, "application/json");
    }
  }

  httplib::Server server_;
  int port_ = 0;
  std::thread thread_;
  Mutex mutex_;
  std::string notice_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace muster::cluster
