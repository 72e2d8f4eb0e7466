// The coordinator among roles that a test plays, with the test's time.
#include "master/coordinator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <optional>
#include <thread>

#include "rpc/inproc_transport.h"
#include "tests/harness/cluster.h"
#include "tests/harness/temporary_folder.h"
#include "tests/harness/toy_module.h"
#include "tests/master/fake_role.h"

namespace muster::master {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// What the coordinator tells its launcher.
class StatusLines {
 public:
  void Put(const StatusLine& line) {
    MutexLock lock(mu_);
    lines_.push_back(line);
    arrived_.NotifyAll();
  }
  // Waits for the next line of kind `Line`; those before it are dropped.
  template <typename Line>
  Line Next() {
    MutexLock lock(mu_);
    for (;;) {
      while (lines_.empty()) arrived_.Wait(mu_);
      const StatusLine line = std::move(lines_.front());
      lines_.pop_front();
      if (const auto* wanted = std::get_if<Line>(&line)) return *wanted;
    }
  }

 private:
  Mutex mu_;
  CondVar arrived_;
  std::deque<StatusLine> lines_ ABSL_GUARDED_BY(mu_);
};

// A chief, a worker and a server, who are told to train.
class CoordinatorTest : public ::testing::Test {
 protected:
  CoordinatorTest() {
    CoordinatorOptions options;
    options.job = harness::ToyJob(100);
    options.chief = options.workers = options.servers = 1;
    options.num_replicas = 2;
    options.dir = JobDirectory(folder_.path());
    EXPECT_TRUE(CreateJobDirectory(options.dir).ok());
    options.transport = transport_.get();
    options.listen_address = "inproc:0";
    options.self = HelloOf("master");
    options.log = log_.get();
    options.on_status = [this](const StatusLine& line) { lines_.Put(line); };
    options.now_ms = [this] { return now_ms_.load(); };
    options.make_module = [](const Job&) { return harness::MakeToyModule(); };
    coordinator_ = *Coordinator::Make(std::move(options));
    run_ = std::thread([this] { status_ = coordinator_->Run(); });
    const std::string& address = coordinator_->address();
    server_.emplace(*transport_, address, HelloOf("ps"));
    chief_.emplace(*transport_, address, HelloOf("chief"));
    worker_.emplace(*transport_, address, HelloOf("worker"));
    server_->SayRegister("inproc:99");
    for (FakeRole* trainer : {&*chief_, &*worker_}) trainer->SayRegister();
    server_->SayReady();
    for (FakeRole* trainer : {&*chief_, &*worker_}) trainer->SayReady("data");
    while (!chief_->Hear().has_placement()) {
    }
  }
  ~CoordinatorTest() override {
    if (run_.joinable()) (void)EndByInterrupts();
  }

  absl::Status EndByInterrupts() {
    coordinator_->Interrupt("the test is over");
    coordinator_->Interrupt("the test is over");
    server_.reset();
    chief_.reset();
    worker_.reset();
    run_.join();
    return status_;
  }
  // Returns when the coordinator has heard `role` at the present time.
  void SpeakUp(FakeRole& role) {
    RoleMessage message;
    message.mutable_warning()->set_text("here");
    role.Say(message);
    for (;;) {
      const std::string text = lines_.Next<MessageLine>().text;
      if (text.ends_with(": here")) return;
      told_.push_back(text);
    }
  }
  static RoleMessage FailedToReachAServer(bool stays = true) {
    RoleMessage message;
    message.mutable_failed()->set_code(static_cast<int>(absl::StatusCode::kUnavailable));
    message.mutable_failed()->set_text("parameter server 0: broke");
    message.mutable_failed()->set_stays(stays);
    return message;
  }
  // Lets time pass, while these say something.
  void Pass(int64_t ms, const std::vector<FakeRole*>& who) {
    for (int64_t left = ms; left > 0; left -= 4'000) {
      now_ms_ += std::min<int64_t>(left, 4'000);
      for (FakeRole* role : who) SpeakUp(*role);
    }
    // What that brings is over with another word.
    SpeakUp(*who.front());
  }

  const harness::TemporaryFolder folder_;
  const std::unique_ptr<Log> log_ = Log::Discard();
  const std::unique_ptr<rpc::Transport> transport_ = rpc::MakeInprocTransport();
  std::atomic<int64_t> now_ms_ = 1'795'242'600'000;
  StatusLines lines_;
  std::vector<std::string> told_;  // messages
  std::unique_ptr<Coordinator> coordinator_;
  std::optional<FakeRole> server_, chief_, worker_;
  absl::Status status_;
  std::thread run_;
};

TEST_F(CoordinatorTest, AReplicaThatLagsIsToldThoughNobodyMakesProgress) {
  now_ms_ += 2'000;
  RoleMessage heartbeat;
  heartbeat.mutable_heartbeat()->set_clock(7);
  chief_->Say(heartbeat);
  SpeakUp(*chief_);
  now_ms_ += 2'000;
  const auto told = lines_.Next<ProgressLine>();
  ASSERT_THAT(told.lagging, SizeIs(1));
  EXPECT_EQ(told.lagging[0].role, "worker");
  EXPECT_EQ(told.lagging[0].steps_behind, 7);
  EXPECT_EQ(told.lagging[0].silent_ms, 4'000);
  EXPECT_EQ(told.total_steps, 100);

  SpeakUp(*worker_);
  now_ms_ += 1'000;
  EXPECT_THAT(lines_.Next<ProgressLine>().lagging, IsEmpty()) << "it is back";
}

TEST_F(CoordinatorTest, AServerThatIsSilentForHalfAMinuteEndsTheJobAndIsNamed) {
  Pass(30'000, {&*chief_, &*worker_});
  now_ms_ += 1'000;
  while (lines_.Next<StateLine>().state != RunState::kFailed) {
  }
  EXPECT_THAT(std::string(EndByInterrupts().message()),
              HasSubstr("ps-0 (pid 0 on ) has been silent for 31 s"));
}

// Its machine has vanished without a word, perhaps.
TEST_F(CoordinatorTest, AWorkerThatIsSilentForHalfAMinuteIsReplacedByTheOthersAndMayComeBack) {
  Pass(30'000, {&*chief_, &*server_});
  EXPECT_THAT(told_, IsEmpty()) << "it may only be slow";
  Pass(1'000, {&*chief_, &*server_});
  EXPECT_THAT(told_, ElementsAre("worker-0 (pid 0 on ) has been silent for 31 s; replica 1 goes on "
                                 "in chief-0"));
  EXPECT_THAT(std::string(worker_->AwaitClosed().message()), HasSubstr("was not heard of"));
  ASSERT_TRUE(chief_->Hear().has_pause());
  RoleMessage paused;
  paused.mutable_paused();
  chief_->Say(paused);
  const MasterMessage placed = chief_->Hear();
  EXPECT_THAT(placed.placement().leases(), ElementsAre(0, 1));

  worker_.emplace(*transport_, coordinator_->address(), HelloOf("worker"));
  ASSERT_TRUE(worker_->status().ok()) << worker_->status();
  worker_->SayRegister();
  EXPECT_TRUE(worker_->Hear().has_trainer_setup());
  worker_->SayReady();
  SpeakUp(*worker_);
  EXPECT_THAT(told_, Contains(HasSubstr("worker-0 has joined; replica 1 goes on in worker-0")));
}

// Who starts a worker anew knows that the one before is gone, sooner than the master perhaps.
TEST_F(CoordinatorTest, AWorkerThatComesBeforeTheFormerIsMissedWaitsAndThenTakesItsPlace) {
  Pass(4'000, {&*chief_, &*server_});
  FakeRole next(*transport_, coordinator_->address(), HelloOf("worker"));
  next.SayRegister();
  Pass(1'000, {&*chief_, &*server_});
  EXPECT_THAT(told_, IsEmpty()) << "the former may only be slow";
  Pass(1'000, {&*chief_, &*server_});
  EXPECT_TRUE(next.Hear().has_trainer_setup());
  EXPECT_FALSE(worker_->AwaitClosed().ok());
  SpeakUp(next);
  EXPECT_THAT(told_, Contains(HasSubstr("worker-0 (pid 0 on ) has been silent for 6 s; ")));
}

TEST_F(CoordinatorTest, NobodyTakesThePlaceOfAWorkerThatIsHeard) {
  Pass(4'000, {&*chief_, &*server_});
  FakeRole second(*transport_, coordinator_->address(), HelloOf("worker"));
  second.SayRegister();
  SpeakUp(*chief_);  // it has come
  now_ms_ += 1'000;
  SpeakUp(*worker_);
  EXPECT_THAT(std::string(second.AwaitClosed().message()), HasSubstr("has registered already"));
  EXPECT_THAT(told_, IsEmpty());
}

TEST_F(CoordinatorTest, AWorkerThatWaitsIsTakenInAtOnceWhenTheFormerGoes) {
  FakeRole next(*transport_, coordinator_->address(), HelloOf("worker"));
  next.SayRegister();
  SpeakUp(*chief_);
  worker_.reset();
  EXPECT_TRUE(next.Hear().has_trainer_setup());
}

TEST_F(CoordinatorTest, OneThatWaitsAndGoesAgainWasNeverThere) {
  std::optional<FakeRole> second;
  second.emplace(*transport_, coordinator_->address(), HelloOf("worker"));
  second->SayRegister();
  SpeakUp(*chief_);
  second.reset();
  Pass(1'000, {&*chief_, &*server_, &*worker_});
  EXPECT_THAT(told_, IsEmpty());
}

// Whose server is gone may be heard before it is known that the server is.
TEST_F(CoordinatorTest, OfAServerAndATrainerWhoLosesItTheServerIsNamedWhoeverIsHeardFirst) {
  worker_->Say(FailedToReachAServer());
  SpeakUp(*worker_);
  server_.reset();
  while (lines_.Next<StateLine>().state != RunState::kFailed) {
  }
  EXPECT_THAT(std::string(EndByInterrupts().message()), HasSubstr("ps-0 (pid 0 on ) is gone"));
}

TEST_F(CoordinatorTest, AServerThatIsNotHeardOfIsNamedInPlaceOfItsTrainers) {
  Pass(6'000, {&*chief_, &*worker_});
  worker_->Say(FailedToReachAServer());
  Pass(24'000, {&*chief_, &*worker_});
  EXPECT_THAT(told_, IsEmpty());
  now_ms_ += 1'000;
  while (lines_.Next<StateLine>().state != RunState::kFailed) {
  }
  EXPECT_THAT(std::string(EndByInterrupts().message()),
              HasSubstr("ps-0 (pid 0 on ) has been silent for 31 s"));
}

TEST_F(CoordinatorTest, ATrainerWhoseConnectionToAServerBrokeBeginsAnewAndTheOthersGoOn) {
  worker_->Say(FailedToReachAServer());
  SpeakUp(*worker_);
  EXPECT_THAT(told_, IsEmpty()) << "the server may be gone";
  Pass(1'000, {&*worker_, &*server_, &*chief_});
  EXPECT_THAT(told_, ElementsAre("worker-0 begins its step anew: parameter server 0: broke"));
  while (!worker_->Hear().has_pause()) {
  }
  RoleMessage paused;
  paused.mutable_paused();
  worker_->Say(paused);
  EXPECT_THAT(worker_->Hear().placement().leases(), ElementsAre(1));
}

// Its tries are counted again once it has finished a step.
TEST_F(CoordinatorTest, ATrainerThatBeginsAnewInVainIsDoneWithout) {
  RoleMessage paused, progress;
  paused.mutable_paused();
  progress.mutable_progress()->set_replica(1);
  progress.mutable_progress()->set_step(1);
  for (int tries = 0; tries < 6; ++tries) {
    if (tries == 3) worker_->Say(progress);
    worker_->Say(FailedToReachAServer());
    SpeakUp(*worker_);
    Pass(1'000, {&*worker_, &*server_, &*chief_});
    while (!worker_->Hear().has_pause()) {
    }
    worker_->Say(paused);
  }
  told_.clear();
  worker_->Say(FailedToReachAServer());
  SpeakUp(*worker_);
  Pass(1'000, {&*server_, &*chief_});
  EXPECT_THAT(told_, ElementsAre("worker-0 (pid 0 on ) has failed: parameter server 0: broke; "
                                 "replica 1 goes on in chief-0"));
  EXPECT_THAT(std::string(worker_->AwaitClosed().message()), HasSubstr("the others do"));
  EXPECT_TRUE(chief_->Hear().has_pause());
}

TEST_F(CoordinatorTest, ATrainerThatCannotReachTheServersAgainAndIsNeededEndsTheJob) {
  for (FakeRole* role : {&*worker_, &*chief_}) role->Say(FailedToReachAServer(/*stays=*/false));
  SpeakUp(*worker_);
  SpeakUp(*chief_);
  now_ms_ += 1'000;
  while (lines_.Next<StateLine>().state != RunState::kFailed) {
  }
  EXPECT_EQ(EndByInterrupts(), absl::UnavailableError("chief-0: parameter server 0: broke"));
}

// Of a machine in a lost one's place, perhaps.
TEST_F(CoordinatorTest, AWorkerThatComesWithOtherDataIsDoneWithout) {
  worker_.reset();
  SpeakUp(*chief_);
  for (const std::string data : {"other", "data"}) {
    told_.clear();
    worker_.emplace(*transport_, coordinator_->address(), HelloOf("worker"));
    worker_->SayRegister();
    worker_->SayReady(data);
    if (data == "other") {
      EXPECT_THAT(
          std::string(worker_->AwaitClosed().message()),
          HasSubstr("the data differs from that of chief-0 (lists of samples other and data)"));
    }
    SpeakUp(data == "other" ? *chief_ : *worker_);
    EXPECT_THAT(told_,
                Contains(HasSubstr(data == "other" ? "worker-0 (pid 0 on ) has failed: the data"
                                                   : "worker-0 has joined")));
  }
}

TEST_F(CoordinatorTest, WhileTheMasterItselfStoodStillNobodyWasSilent) {
  now_ms_ += 120'000;
  SpeakUp(*server_);
  SpeakUp(*server_);
  now_ms_ -= 600'000;
  SpeakUp(*server_);
  SpeakUp(*server_);
  EXPECT_THAT(told_, IsEmpty());
  coordinator_->Interrupt("enough");
  while (!chief_->Hear().has_hold()) {
  }
}

TEST_F(CoordinatorTest, ASecondInterruptEndsTheJobAtOnce) {
  coordinator_->Interrupt("enough");
  while (!chief_->Hear().has_hold()) {
  }
  EXPECT_TRUE(absl::IsCancelled(EndByInterrupts()));
}

}  // namespace
}  // namespace muster::master
