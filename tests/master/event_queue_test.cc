#include "master/event_queue.h"

#include <gtest/gtest.h>

#include "rpc/inproc_transport.h"
#include "tests/master/fake_role.h"

namespace muster::master {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLong = std::chrono::minutes(1);

TEST(EventQueue, GivesEventsInTheirOrderAndThenTicks) {
  EventQueue queue;
  queue.Put(Interrupted{"first"});
  queue.Put(Broken{absl::InternalError("second")});
  EXPECT_EQ(std::get<Interrupted>(queue.Take(kLong)).reason, "first");
  EXPECT_EQ(std::get<Broken>(queue.Take(kLong)).status.message(), "second");
  EXPECT_TRUE(std::holds_alternative<Tick>(queue.Take(milliseconds(0))));
}

class ListenForRolesTest : public ::testing::Test {
 protected:
  FakeRole Connect(const rpc::Hello& self) {
    return FakeRole(*transport_, listener_->address(), self);
  }

  const std::shared_ptr<EventQueue> queue_ = std::make_shared<EventQueue>();
  FileService files_{"/nowhere"};
  const std::unique_ptr<rpc::Transport> transport_ = rpc::MakeInprocTransport();
  const std::unique_ptr<rpc::Listener> listener_ =
      *ListenForRoles(*transport_, "inproc:0", HelloOf("master"), queue_, files_);
};

TEST_F(ListenForRolesTest, ARoleJoinsSpeaksAndLeaves) {
  const RoleId worker = {RoleId::Kind::kWorker, 3};
  {
    FakeRole role = Connect(HelloOf("worker", 3));
    RoleMessage message;
    message.mutable_heartbeat()->set_clock(7);
    role.Say(message);
    EXPECT_EQ(std::get<RoleJoined>(queue_->Take(kLong)).role, worker);
    const auto said = std::get<RoleSaid>(queue_->Take(kLong));
    EXPECT_EQ(said.role, worker);
    EXPECT_EQ(said.message.heartbeat().clock(), 7);
    role.stream().Close();
  }
  const auto left = std::get<RoleLeft>(queue_->Take(kLong));
  EXPECT_EQ(left.role, worker);
  EXPECT_TRUE(left.status.ok()) << left.status;
}

TEST_F(ListenForRolesTest, WhoIsNoRoleOrWantsAnotherServiceIsRefused) {
  EXPECT_TRUE(absl::IsInvalidArgument(Connect(HelloOf("visitor")).status()));
  rpc::Hello params = HelloOf("worker");
  params.service = "params";
  EXPECT_TRUE(absl::IsInvalidArgument(Connect(params).status()));
  EXPECT_TRUE(std::holds_alternative<Tick>(queue_->Take(milliseconds(0))));
}

TEST_F(ListenForRolesTest, ARoleThatSpeaksNoControlMessageHasLeft) {
  FakeRole role = Connect(HelloOf("ps"));
  rpc::Message garbage;
  garbage.header.type = rpc::MessageType::kControl;
  garbage.payload = rpc::Payload::Own("\xff no message");
  ASSERT_TRUE(role.stream().Send(std::move(garbage)).ok());
  EXPECT_TRUE(std::holds_alternative<RoleJoined>(queue_->Take(kLong)));
  EXPECT_TRUE(absl::IsInvalidArgument(std::get<RoleLeft>(queue_->Take(kLong)).status));
}

}  // namespace
}  // namespace muster::master
