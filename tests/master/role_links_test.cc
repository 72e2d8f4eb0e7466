#include "master/role_links.h"

#include <gtest/gtest.h>

#include "master/event_queue.h"
#include "rpc/inproc_transport.h"
#include "tests/master/fake_role.h"

namespace muster::master {
namespace {

constexpr RoleId kChief = {RoleId::Kind::kChief, 0}, kServer = {RoleId::Kind::kServer, 0};

class RoleLinksTest : public ::testing::Test {
 protected:
  RoleLinksTest() {
    for (int joined = 0; joined < 3;) {
      const Event event = queue_->Take(std::chrono::minutes(1));
      if (const auto* role = std::get_if<RoleJoined>(&event)) {
        links_.Add(role->role, role->stream);
        ++joined;
      }
    }
  }
  static MasterMessage Word(const std::string& text) {
    MasterMessage message;
    message.mutable_stop()->set_reason(text);
    return message;
  }
  static std::string Next(FakeRole& role) { return role.Hear().stop().reason(); }

  const std::shared_ptr<EventQueue> queue_ = std::make_shared<EventQueue>();
  FileService files_{"/nowhere"};
  const std::unique_ptr<rpc::Transport> transport_ = rpc::MakeInprocTransport();
  const std::unique_ptr<rpc::Listener> listener_ =
      *ListenForRoles(*transport_, "inproc:0", HelloOf("master"), queue_, files_);
  FakeRole chief_{*transport_, listener_->address(), HelloOf("chief")};
  FakeRole worker_{*transport_, listener_->address(), HelloOf("worker")};
  FakeRole server_{*transport_, listener_->address(), HelloOf("ps")};
  RoleLinks links_;
};

TEST_F(RoleLinksTest, AMessageReachesThoseItIsFor) {
  links_.Send(kChief, Word("to the chief"));
  links_.SendToServers(Word("to servers"));
  links_.SendToAll(Word("to all"));
  for (const char* expected : {"to the chief", "to all"}) EXPECT_EQ(Next(chief_), expected);
  EXPECT_EQ(Next(worker_), "to all");
  for (const char* expected : {"to servers", "to all"}) EXPECT_EQ(Next(server_), expected);
}

TEST_F(RoleLinksTest, AllHaveLeftWhenTheLastHas) {
  links_.MarkLeft(kServer);
  links_.MarkLeft(kChief);
  EXPECT_FALSE(links_.all_left());
  links_.MarkLeft({RoleId::Kind::kWorker, 0});
  EXPECT_TRUE(links_.all_left());
  EXPECT_TRUE(RoleLinks().all_left()) << "nobody has joined";
}

TEST_F(RoleLinksTest, ARoleThatComesAgainIsSpokenToOnItsNewStream) {
  const RoleId worker = {RoleId::Kind::kWorker, 0};
  links_.MarkLeft(worker);
  FakeRole again(*transport_, listener_->address(), HelloOf("worker"));
  Event event = queue_->Take(std::chrono::minutes(1));
  while (!std::holds_alternative<RoleJoined>(event)) event = queue_->Take(std::chrono::minutes(1));
  const auto& joined = std::get<RoleJoined>(event);
  EXPECT_FALSE(links_.Has(worker, joined.link));
  links_.Add(worker, joined.stream, joined.link);
  EXPECT_TRUE(links_.Has(worker, joined.link));
  EXPECT_FALSE(links_.Has(worker, joined.link - 1)) << "what its first stream says is past";
  EXPECT_FALSE(links_.all_left());
  links_.Send(worker, Word("to the second"));
  links_.SendToAll(Word("to all"));
  EXPECT_EQ(Next(again), "to the second");
  EXPECT_EQ(Next(again), "to all");
}

TEST_F(RoleLinksTest, SendingToARoleThatIsGoneDoesNothing) {
  server_.stream().Close();
  links_.SendToAll(Word("to all"));
  EXPECT_EQ(Next(chief_), "to all");
}

}  // namespace
}  // namespace muster::master
