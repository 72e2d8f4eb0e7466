// KeeperTest: a keeper, and launchers that say anything to it, each in a process of its own.
//
// For one test binary's thread.
#pragma once

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "cluster/keeper_process.h"
#include "cluster/keeper_socket.h"
#include "cluster/node.pb.h"
#include "cluster/node_relay.h"
#include "cluster/node_wire.h"
#include "tests/harness/temporary_folder.h"

namespace muster::cluster {

class KeeperTest : public ::testing::Test {
 protected:
  struct Node {
    int to = -1, from = -1;
    pid_t pid = -1;
    FrameReader reader;
    std::vector<NodeEvent> events;
  };
  void Begin(Node& node) {
    int in[2], out[2];
    ASSERT_EQ(pipe2(in, O_CLOEXEC), 0);
    ASSERT_EQ(pipe2(out, O_CLOEXEC), 0);
    node.pid = fork();
    if (node.pid == 0) {
      // As sshd does: nothing else is open, and the way there is 0 and 1.
      dup2(in[0], 0);
      dup2(out[1], 1);
      for (int fd = 3; fd < 1000; ++fd) close(fd);
      _exit(ServeNode(options_));
    }
    close(in[0]);
    close(out[1]);
    node.to = in[1];
    node.from = out[0];
  }
  void Say(Node& node, const NodeRequest& request) {
    const std::string frame = EncodeFrame(request);
    ASSERT_EQ(write(node.to, frame.data(), frame.size()), static_cast<ssize_t>(frame.size()));
  }
  void Open(Node& node, bool attach = false, const std::string& notices_of = "") {
    NodeRequest request;
    request.mutable_open()->set_notices_of(notices_of);
    request.mutable_open()->set_directory(folder_.path() + "/job");
    request.mutable_open()->set_lock(true);
    request.mutable_open()->set_attach(attach);
    request.mutable_open()->set_launcher("process 12 on host h since now");
    Say(node, request);
  }
  // The next event that is no Hello; one without a kind at the end.
  NodeEvent Next(Node& node) {
    for (;;) {
      while (!node.events.empty()) {
        NodeEvent event = node.events.front();
        node.events.erase(node.events.begin());
        if (!event.has_hello()) return event;
      }
      const auto state = node.reader.Read(node.from, [&](std::string_view frame) {
        node.events.emplace_back().ParseFromArray(frame.data(), static_cast<int>(frame.size()));
        return absl::OkStatus();
      });
      if (!state.ok() || *state == FrameReader::State::kEnd) {
        if (node.events.empty()) return {};
      }
    }
  }
  int End(Node& node) {
    close(node.to);
    while (Next(node).kind_case() != NodeEvent::KIND_NOT_SET) {
    }
    close(node.from);
    int status = 0;
    waitpid(node.pid, &status, 0);
    return WEXITSTATUS(status);
  }
  // -1: there is none.
  pid_t KeeperProcess() const {
    const auto name = KeeperName(folder_.path() + "/job", 0);
    if (!name.ok()) return -1;
    const auto fd = ConnectToKeeper(*name);
    if (!fd.ok()) return -1;
    ucred peer{};
    socklen_t size = sizeof(peer);
    getsockopt(*fd, SOL_SOCKET, SO_PEERCRED, &peer, &size);
    close(*fd);
    return peer.pid;
  }
  bool KeeperLives() const { return KeeperProcess() > 0; }
  // One that begins with its host, in a process of its own.
  pid_t BeginWithHost() {
    const pid_t keeper = fork();
    if (keeper == 0) _exit(ServeKeeper(options_, folder_.path() + "/job", 0));
    for (int i = 0; i < 200 && !KeeperLives(); ++i) poll(nullptr, 0, 50);
    return keeper;
  }
  static int ExitOf(pid_t process) {
    int status = 0;
    waitpid(process, &status, 0);
    return WEXITSTATUS(status);
  }
  // It ends a moment after its launcher has heard of it for the last time.
  bool KeeperEnds() const {
    for (int i = 0; i < 200 && KeeperLives(); ++i) poll(nullptr, 0, 50);
    return !KeeperLives();
  }

  const harness::TemporaryFolder folder_;
  NodeOptions options_{.program_dir = folder_.path(), .home = folder_.path()};
};

}  // namespace muster::cluster
