// Workers that leave, die and come back while the job trains: what it computes is the same, to the
// bit under BSP.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <thread>

#include "rpc/inproc_transport.h"
#include "telemetry/file.h"
#include "telemetry/mutex.h"
#include "tests/harness/cluster.h"
#include "tests/harness/delay_transport.h"
#include "tests/harness/temporary_folder.h"
#include "tests/harness/toy_module.h"

namespace muster::harness {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int kReplicas = 6, kBatch = 8;

// One thing that a worker does.
struct Going {
  int64_t step = 0;  // about when
  enum class How { kLeaves, kDies } how = How::kLeaves;
  int64_t messages = 0;  // that it still sends before it dies
  bool comes_back = false;
};
void PrintTo(const Going& going, std::ostream* out) {
  *out << (going.how == Going::How::kDies ? "dies" : "leaves") << " at step " << going.step;
  if (going.messages > 0) *out << " after " << going.messages << " messages";
  if (going.comes_back) *out << " and comes back";
}
// By worker, what it does one after the other.
using Script = std::map<int, std::deque<Going>>;

// Runs a cluster in which workers do as a script says. From `slow_from` on it trains slowly until
// all of that has happened, so that the job does not end before.
class Stage {
 public:
  Stage(ClusterOptions options, Script script, int64_t slow_from)
      : slow_from_(slow_from), script_(std::move(script)) {
    options.job_dir = folder_.path();
    options.replicas = kReplicas;
    options.make_module = [this] {
      return MakeToyModule({.before_get = [this](int64_t draw) { OnDraw(draw); }});
    };
    options.on_status = [this](const master::StatusLine& line) { OnStatus(line); };
    cluster_.emplace(std::move(options));
  }

  ClusterResult Run() { return cluster_->Run(); }
  Cluster& cluster() { return *cluster_; }
  // Called once `step` is about to be trained.
  void At(int64_t step, std::function<void()> what) {
    MutexLock lock(mu_);
    at_[step] = std::move(what);
  }
  bool all_done() const {
    MutexLock lock(mu_);
    return Done();
  }
  std::vector<std::string> messages() const {
    MutexLock lock(mu_);
    return messages_;
  }
  const std::string& folder() const { return folder_.path(); }

 private:
  struct Act {
    int worker;
    Going going;
  };

  bool Done() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) { return script_.empty() && away_.empty(); }

  void OnDraw(int64_t draw) {
    const int64_t step = draw / (kReplicas * kBatch);
    std::vector<Act> acts;
    std::function<void()> at;
    bool slow = false;
    {
      MutexLock lock(mu_);
      for (auto& [worker, goings] : script_) {
        if (away_.contains(worker) || step < goings.front().step) continue;
        away_.emplace(worker, goings.front());
        acts.push_back({worker, goings.front()});
        goings.pop_front();
      }
      std::erase_if(script_, [](const auto& entry) { return entry.second.empty(); });
      slow = step >= slow_from_ && !Done();
      if (!at_.empty() && step >= at_.begin()->first) {
        at = std::move(at_.extract(at_.begin()).mapped());
      }
    }
    for (const Act& act : acts) {
      if (act.going.how == Going::How::kLeaves) {
        cluster_->Leave(act.worker);
      } else {
        cluster_->Kill(act.worker, act.going.messages);
      }
    }
    if (at) at();
    if (slow) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }

  void OnStatus(const master::StatusLine& line) {
    std::optional<int> starts;
    {
      MutexLock lock(mu_);
      if (const auto* message = std::get_if<master::MessageLine>(&line)) {
        messages_.push_back(message->text);
        for (auto it = away_.begin(); it != away_.end();) {
          const bool joined =
              message->text.starts_with(fmt::format("worker-{} has joined", it->first));
          it = joined ? away_.erase(it) : std::next(it);
        }
      }
      const auto* replica = std::get_if<master::ReplicaLine>(&line);
      if (replica != nullptr && (replica->state == "LEFT" || replica->state == "LOST")) {
        const auto gone = away_.find(replica->index);
        if (gone == away_.end()) return;
        if (gone->second.comes_back) {
          starts = gone->first;
        } else {
          away_.erase(gone);
        }
      }
    }
    if (starts) cluster_->Start(*starts);
  }

  const TemporaryFolder folder_;
  const int64_t slow_from_;
  std::optional<Cluster> cluster_;
  mutable Mutex mu_;
  Script script_ ABSL_GUARDED_BY(mu_);              // still to come
  std::map<int, Going> away_ ABSL_GUARDED_BY(mu_);  // under way
  std::vector<std::string> messages_ ABSL_GUARDED_BY(mu_);
  std::map<int64_t, std::function<void()>> at_ ABSL_GUARDED_BY(mu_);  // by step
};

// What the workers of a job of `steps` steps do.
Script RandomScript(std::mt19937_64& random, int workers, int64_t steps, bool comes_back) {
  Script script;
  for (int worker = 0; worker < workers; ++worker) {
    if (random() % 4 == 0) continue;
    int64_t step = 1;
    do {
      Going going;
      going.step = step += static_cast<int64_t>(random() % static_cast<uint64_t>(steps / 2));
      if (random() % 2 == 0) {
        going.how = Going::How::kDies;
        going.messages = static_cast<int64_t>(random() % 12);
      }
      going.comes_back = comes_back && random() % 3 != 0;
      script[worker].push_back(going);
    } while (script[worker].back().comes_back && random() % 2 == 0);
  }
  return script;
}

Job LongJob(int64_t steps = 160) {
  Job job = ToyJob(steps);
  job.mutable_training()->mutable_evaluation()->set_interval(10);
  return job;
}

ClusterOptions Options(Job job, int trainers, int servers) {
  ClusterOptions options;
  options.job = std::move(job);
  options.trainers = trainers;
  options.servers = servers;
  return options;
}

ClusterResult Undisturbed(const Job& job) { return Stage(Options(job, 2, 2), {}, 0).Run(); }

const master::ReplicaState& Entry(const ClusterResult& result, const std::string& role, int index) {
  for (const auto& replica : result.state.replicas) {
    if (replica.role == role && replica.index == index) return replica;
  }
  ADD_FAILURE() << "no " << role << " " << index;
  return result.state.replicas.front();
}

TEST(ComingsAndGoings, AWorkerThatLeavesIsLetGoAndTheOthersHaveItsReplicas) {
  const ClusterResult whole = Undisturbed(LongJob());
  Stage stage(Options(LongJob(), 3, 2), {{1, {{.step = 20}}}}, /*slow_from=*/40);
  const ClusterResult result = stage.Run();
  ASSERT_TRUE(result.status.ok()) << result.status;
  EXPECT_TRUE(stage.all_done());
  EXPECT_EQ(result.weights, whole.weights);
  EXPECT_EQ(result.state.metrics.test_accuracy, whole.state.metrics.test_accuracy);
  EXPECT_TRUE(result.state.exact);
  EXPECT_EQ(Entry(result, "worker", 1).state, "LEFT");
  EXPECT_THAT(Entry(result, "worker", 1).leases, IsEmpty());
  EXPECT_THAT(Entry(result, "master", 0).leases, ElementsAre(0, 1, 4)) << "the chief's";
  EXPECT_THAT(Entry(result, "worker", 0).leases, ElementsAre(2, 3, 5));
  EXPECT_THAT(stage.messages(), Contains(AllOf(HasSubstr("worker-1 leaves"),
                                               HasSubstr("replica 4 goes on in chief-0"),
                                               HasSubstr("replica 5 goes on in worker-0"))));
  EXPECT_THAT(*ReadFile(stage.folder() + "/report.html"), HasSubstr("worker-1 leaves"));
}

TEST(ComingsAndGoings, AWorkerThatDiesIsReplacedByTheOthersUntilItComesBack) {
  const ClusterResult whole = Undisturbed(LongJob());
  Stage stage(Options(LongJob(), 3, 2),
              {{0, {{.step = 20, .how = Going::How::kDies, .messages = 3, .comes_back = true}}}},
              /*slow_from=*/40);
  const ClusterResult result = stage.Run();
  ASSERT_TRUE(result.status.ok()) << result.status;
  EXPECT_TRUE(stage.all_done());
  EXPECT_EQ(result.weights, whole.weights);
  EXPECT_EQ(Entry(result, "worker", 0).state, "FINISHED");
  EXPECT_THAT(Entry(result, "worker", 0).leases, ElementsAre(2, 3)) << "its own again";
  EXPECT_THAT(stage.messages(), Contains(HasSubstr("worker-0 (pid 1000 on here) is gone: ")));
}

struct Variant {
  std::string name;
  std::function<void(Training&)> set;
};
void PrintTo(const Variant& variant, std::ostream* out) { *out << variant.name; }

class EveryExactJob : public ::testing::TestWithParam<Variant> {};

TEST_P(EveryExactJob, HasTheSameBitsWhoeverComesAndGoes) {
  Job job = LongJob();
  GetParam().set(*job.mutable_training());
  const ClusterResult whole = Undisturbed(job);
  ASSERT_TRUE(whole.status.ok()) << whole.status;
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    std::mt19937_64 random(seed);
    const int trainers = 2 + static_cast<int>(random() % 4);
    const int servers = 1 + static_cast<int>(random() % 3);
    const Script script = RandomScript(random, trainers - 1, 60, /*comes_back=*/true);
    SCOPED_TRACE(fmt::format("seed {}: {} trainers, {} servers, {}", seed, trainers, servers,
                             ::testing::PrintToString(script)));
    const auto inner = rpc::MakeInprocTransport();
    const auto delayed =
        MakeDelayTransport(*inner, {.seed = seed, .max_delay_us = 300, .rare_delay_us = 3000});
    ClusterOptions options = Options(job, trainers, servers);
    if (seed % 2 == 0) options.transport = delayed.get();
    Stage stage(std::move(options), script, /*slow_from=*/70);
    const ClusterResult result = stage.Run();
    ASSERT_TRUE(result.status.ok()) << result.status;
    EXPECT_TRUE(stage.all_done());
    EXPECT_EQ(result.weights, whole.weights);
    EXPECT_EQ(result.state.metrics.validation_accuracy, whole.state.metrics.validation_accuracy);
    EXPECT_EQ(result.state.metrics.test_accuracy, whole.state.metrics.test_accuracy);
  }
}

void AllButBiases(Training& training, const std::string& push, const std::string& pull) {
  CodecSpec& codec = *training.mutable_codec();
  codec.set_push(push);
  codec.set_pull(pull);
  codec.add_parameters()->set_pattern("*bias");
}

// The chief's too; also several of one trainer's at once, and the same one's again.
TEST_P(EveryExactJob, HasTheSameBitsWhichConnectionsEverBreak) {
  Job job = LongJob(60);
  GetParam().set(*job.mutable_training());
  const ClusterResult whole = Undisturbed(job);
  ASSERT_TRUE(whole.status.ok()) << whole.status;
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    std::mt19937_64 random(seed);
    const int trainers = 1 + static_cast<int>(random() % 3);
    const int servers = 1 + static_cast<int>(random() % 3);
    std::map<int64_t, std::pair<int, int64_t>> breaks;
    for (int i = 0; i < 3; ++i) {
      breaks[static_cast<int64_t>(random() % 60)] = {static_cast<int>(random() % trainers),
                                                     static_cast<int64_t>(random() % 12)};
    }
    SCOPED_TRACE(fmt::format("seed {}: {} trainers, {} servers, {}", seed, trainers, servers,
                             ::testing::PrintToString(breaks)));
    Stage stage(Options(job, trainers, servers), {}, /*slow_from=*/100);
    for (const auto& [step, what] : breaks) {
      stage.At(step, [&stage, what = what] { stage.cluster().Break(what.first, what.second); });
    }
    const ClusterResult result = stage.Run();
    ASSERT_TRUE(result.status.ok()) << result.status;
    EXPECT_EQ(result.weights, whole.weights);
    EXPECT_EQ(result.state.metrics.validation_accuracy, whole.state.metrics.validation_accuracy);
    EXPECT_EQ(result.state.metrics.test_accuracy, whole.state.metrics.test_accuracy);
    EXPECT_THAT(stage.messages(), Contains(HasSubstr(" begins its step anew: parameter server ")));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Variants, EveryExactJob,
    ::testing::Values(
        Variant{"plain", [](Training&) {}},
        Variant{"fp16", [](Training& training) { AllButBiases(training, "fp16", "none"); }},
        Variant{"bf16_pull", [](Training& training) { AllButBiases(training, "fp16", "bf16"); }},
        Variant{"int8_pull", [](Training& training) { AllButBiases(training, "none", "int8"); }},
        Variant{"momentum_clipNorm",
                [](Training& training) {
                  training.mutable_optimizer()->set_name("momentum");
                  training.mutable_optimizer()->set_clip_norm(0.1);
                  AllButBiases(training, "fp16", "none");
                }},
        Variant{"lamb",
                [](Training& training) {
                  training.mutable_optimizer()->set_name("lamb");
                  training.mutable_optimizer()->set_clip_norm(1);
                  training.mutable_schedule(0)->set_learning_rate(0.02);
                  AllButBiases(training, "fp16", "none");
                }}),
    [](const auto& info) { return info.param.name; });

class EveryOtherJob : public ::testing::TestWithParam<Variant> {};

TEST_P(EveryOtherJob, GoesOnAndLearnsWhoeverComesAndGoes) {
  Job job = LongJob(240);
  GetParam().set(*job.mutable_training());
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    std::mt19937_64 random(seed);
    const int trainers = 2 + static_cast<int>(random() % 4);
    const Script script = RandomScript(random, trainers - 1, 60, /*comes_back=*/true);
    SCOPED_TRACE(
        fmt::format("seed {}: {} trainers, {}", seed, trainers, ::testing::PrintToString(script)));
    Stage stage(Options(job, trainers, 2), script, /*slow_from=*/70);
    const ClusterResult result = stage.Run();
    ASSERT_TRUE(result.status.ok()) << result.status;
    EXPECT_TRUE(stage.all_done());
    EXPECT_EQ(result.checkpoint_step, 240);
    EXPECT_GT(result.state.metrics.test_accuracy.value_or(0), 0.9);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Variants, EveryOtherJob,
    ::testing::Values(Variant{"backupWorkers",
                              [](Training& training) {
                                training.mutable_consistency()->set_backup_workers(2);
                              }},
                      Variant{"SSP",
                              [](Training& training) {
                                training.mutable_consistency()->set_mode(Consistency::SSP);
                                training.mutable_consistency()->set_staleness(3);
                              }},
                      Variant{"ASYNC",
                              [](Training& training) {
                                training.mutable_consistency()->set_mode(Consistency::ASYNC);
                              }}),
    [](const auto& info) { return info.param.name; });

TEST(ComingsAndGoings, WorkersThatDieInTheLastStepsAndEvaluationsChangeNothing) {
  const Job job = LongJob(30);
  const ClusterResult whole = Undisturbed(job);
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    std::mt19937_64 random(seed);
    Script script;
    for (int worker = 0; worker < 3; ++worker) {
      script[worker].push_back({.step = 27 + static_cast<int64_t>(random() % 3),
                                .how = Going::How::kDies,
                                .messages = static_cast<int64_t>(random() % 40)});
    }
    SCOPED_TRACE(fmt::format("seed {}: {}", seed, ::testing::PrintToString(script)));
    const ClusterResult result = Stage(Options(job, 4, 2), script, /*slow_from=*/100).Run();
    ASSERT_TRUE(result.status.ok()) << result.status;
    EXPECT_EQ(result.weights, whole.weights);
    EXPECT_EQ(result.state.metrics.validation_accuracy, whole.state.metrics.validation_accuracy);
    EXPECT_EQ(result.state.metrics.test_accuracy, whole.state.metrics.test_accuracy);
  }
}

TEST(ComingsAndGoings, AnInterruptedRunWhoseWorkersDieMeanwhileSavesAStepThatGoesOn) {
  const Job job = LongJob(60);
  const ClusterResult whole = Undisturbed(job);
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    std::mt19937_64 random(seed);
    Script script;
    for (int worker = 0; worker < 3; ++worker) {
      script[worker].push_back({.step = 10 + static_cast<int64_t>(random() % 3),
                                .how = Going::How::kDies,
                                .messages = static_cast<int64_t>(random() % 12)});
    }
    SCOPED_TRACE(fmt::format("seed {}: {}", seed, ::testing::PrintToString(script)));
    Stage stage(Options(job, 4, 2), script, /*slow_from=*/11);
    stage.At(10 + static_cast<int64_t>(random() % 3),
             [&stage] { stage.cluster().Interrupt("a test"); });
    const ClusterResult stopped = stage.Run();
    ASSERT_TRUE(absl::IsCancelled(stopped.status)) << stopped.status;
    ASSERT_GT(stopped.checkpoint_step, 0);
    ASSERT_EQ(stopped.checkpoint_step, stopped.state.step);
    ClusterOptions again = Options(job, 1, 1);
    again.replicas = kReplicas;
    again.job_dir = stage.folder();
    const ClusterResult resumed = Cluster(again).Run();
    ASSERT_TRUE(resumed.status.ok()) << resumed.status;
    EXPECT_EQ(resumed.state.resumed_from, stopped.checkpoint_step);
    EXPECT_EQ(resumed.weights, whole.weights);
  }
}

// The first messages of who begins anew ask for its clock.
TEST(ComingsAndGoings, AConnectionMayBreakAgainWhileItsTrainerBeginsAnew) {
  const Job job = LongJob(30);
  const ClusterResult whole = Undisturbed(job);
  for (int64_t messages = 1; messages <= 6; ++messages) {
    SCOPED_TRACE(messages);
    const TemporaryFolder folder;
    std::optional<Cluster> cluster;
    std::atomic<int> anew = 0;
    std::atomic<bool> broken = false;
    ClusterOptions options = Options(job, /*trainers=*/1, /*servers=*/1);
    options.replicas = kReplicas;
    options.job_dir = folder.path();
    options.make_module = [&] {
      return MakeToyModule({.before_get = [&](int64_t draw) {
        if (draw >= 5 * kReplicas * kBatch && !broken.exchange(true)) cluster->Break(0);
      }});
    };
    options.on_status = [&](const master::StatusLine& line) {
      const auto* message = std::get_if<master::MessageLine>(&line);
      if (message == nullptr || message->text.find("anew") == std::string::npos) return;
      if (++anew == 1) cluster->Break(0, messages);
    };
    cluster.emplace(std::move(options));
    const ClusterResult result = cluster->Run();
    ASSERT_TRUE(result.status.ok()) << result.status;
    EXPECT_EQ(result.weights, whole.weights);
    EXPECT_EQ(anew, 2);
  }
}

TEST(ComingsAndGoings, WithACodecThatKeepsSomethingBackAConnectionThatBreaksEndsTheJob) {
  Job job = LongJob(60);
  job.mutable_training()->mutable_codec()->set_push("int8");
  Stage stage(Options(job, 2, 1), {}, 0);
  stage.At(5, [&stage] { stage.cluster().Break(1); });
  const ClusterResult result = stage.Run();
  EXPECT_EQ(result.status, absl::UnavailableError(
                               "worker-0: parameter server 0 at inproc:2: the connection broke"));
}

// Only their own processes have what such codecs keep back.
TEST(ComingsAndGoings, WithACodecThatKeepsSomethingBackWorkersStay) {
  Job job = LongJob(60);
  job.mutable_training()->mutable_codec()->set_push("int8");
  Stage stage(Options(job, 2, 1), {}, 0);
  stage.At(5, [&stage] { stage.cluster().Leave(0); });
  const ClusterResult result = stage.Run();
  ASSERT_TRUE(result.status.ok()) << result.status;
  EXPECT_EQ(Entry(result, "worker", 0).state, "FINISHED");
  EXPECT_THAT(stage.messages(),
              Contains(AllOf(HasSubstr("worker-0 was asked to leave, and stays: "),
                             HasSubstr("training.codec"))));
  Stage other(Options(job, 2, 1), {}, 0);
  other.At(5, [&other] { other.cluster().Kill(0); });
  const ClusterResult failed = other.Run();
  EXPECT_TRUE(absl::IsUnavailable(failed.status)) << failed.status;
  EXPECT_THAT(std::string(failed.status.message()), HasSubstr("worker-0"));
  EXPECT_EQ(Entry(failed, "worker", 0).state, "LOST");
}

}  // namespace
}  // namespace muster::harness
