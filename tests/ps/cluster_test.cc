// Workers as threads, each with a Client, against servers in the same process: bit-identical BSP
// whatever the timing, the number of servers and shards, and who holds which replica; the SSP
// bound; cuts and restores.
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <set>
#include <thread>

#include "ps/checkpoint.h"
#include "ps/client.h"
#include "telemetry/mutex.h"
#include "tests/harness/temporary_folder.h"
#include "tests/ps/servers.h"

namespace muster::ps {
namespace {

// Slices above and below one quantum (64 KiB), and odd sizes.
ParamTable MakeTable() {
  const Init normal = {Init::Kind::kTruncatedNormal, 0.5f};
  return *ParamTable::Make({
      {.name = "big", .shape = {300, 611}, .init = normal},
      {.name = "small", .shape = {77}, .init = normal},
      {.name = "mean", .shape = {13}, .kind = ParamSpec::Kind::kStatistic},
      {.name = "odd", .shape = {5, 1001}, .init = normal, .decay = false, .lr_scale = 2},
  });
}

// The gradient of item (step, v): depends on the weights and on the item, and on every bit of both.
void Gradient(const ParamTable& table, std::span<const float> weights, int64_t step, int32_t v,
              std::span<float> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    const float item = 0.25f * static_cast<float>(v + 1) + 0.125f * static_cast<float>(step % 7) +
                       static_cast<float>(i % 31) * 0.01f;
    out[i] = weights[i] * item - 0.3f * item * item;
  }
  for (ParamId p = 0; p < static_cast<ParamId>(table.specs().size()); ++p) {
    const int64_t size = table.specs()[static_cast<size_t>(p)].size();
    const auto end = static_cast<size_t>(table.offset(p) + size);
    for (size_t i = end; i < (end + 15) / 16 * 16; ++i) out[i] = 0;
  }
}

// Lets other threads in now and then, from a generator of its own: no two runs interleave alike.
class Jitter {
 public:
  explicit Jitter(uint32_t seed) : rng_(seed) {}
  void operator()() {
    for (uint32_t n = rng_() % 4; n > 0; --n) std::this_thread::yield();
  }

 private:
  std::mt19937 rng_;
};

// A worker process: computes the items of its replicas from step `from` to `to`.
struct Worker {
  std::vector<int32_t> replicas;
  uint32_t jitter_seed = 0;
  std::vector<float> final_weights;
  absl::Status status;

  absl::Status Run(Servers& servers, const ParamTable& table, int index, int64_t from, int64_t to,
                   bool exact) {
    ClientOptions options;
    options.credit_bytes = 100'000;  // less than a step
    ASSIGN_OR_RETURN(const std::unique_ptr<Client> client,
                     ConnectWorker(servers, table, index, options));
    const auto size = static_cast<size_t>(table.arena_size());
    std::vector<float> arena[2] = {std::vector<float>(size, 0.0f), std::vector<float>(size, 0.0f)};
    std::vector<std::vector<float>> gradients(replicas.size(), std::vector<float>(size));
    Jitter jitter(jitter_seed);
    client->SetArena(arena[from % 2]);
    client->Pull(replicas[0], from, exact ? from : -1);
    for (int64_t step = from; step < to; ++step) {
      RETURN_IF_ERROR(client->Wait(step));
      client->SetArena(arena[(step + 1) % 2]);
      for (size_t r = 0; r < replicas.size(); ++r) {
        Gradient(table, arena[step % 2], step, replicas[r], gradients[r]);
        for (ParamId p = static_cast<ParamId>(table.specs().size()) - 1; p >= 0; --p) {
          jitter();
          const auto grad =
              std::span<const float>(gradients[r])
                  .subspan(static_cast<size_t>(table.offset(p)),
                           static_cast<size_t>(table.specs()[static_cast<size_t>(p)].size()));
          client->Push(replicas[r], step, p, grad, /*priority=*/p, r + 1 == replicas.size());
        }
      }
    }
    RETURN_IF_ERROR(client->Wait(to));
    final_weights = arena[to % 2];
    client->SetArena(arena[to % 2]);
    client->PullAtClock(replicas[0], to);
    RETURN_IF_ERROR(client->Wait(to));
    if (exact) {
      EXPECT_EQ(arena[to % 2], final_weights) << "a push and a pull are answered alike";
    }
    final_weights = arena[to % 2];
    return absl::OkStatus();
  }
};

// Runs one thread per entry of `leases`; returns the final weights, which all must agree on when
// all replicas are done.
std::vector<float> Train(Servers& servers, const ParamTable& table,
                         const std::vector<std::vector<int32_t>>& leases, int64_t from, int64_t to,
                         uint32_t seed, bool exact) {
  std::vector<Worker> workers(leases.size());
  std::vector<std::thread> threads;
  for (size_t i = 0; i < leases.size(); ++i) {
    workers[i].replicas = leases[i];
    workers[i].jitter_seed = seed + static_cast<uint32_t>(i);
    threads.emplace_back([&, i] {
      workers[i].status = workers[i].Run(servers, table, static_cast<int>(i), from, to, exact);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Worker& worker : workers) {
    EXPECT_TRUE(worker.status.ok()) << worker.status;
    EXPECT_EQ(worker.final_weights, workers[0].final_weights);
  }
  return workers[0].final_weights;
}

TEST(BspClusterTest, TheSameBitsWhateverServersShardsWorkersAndTiming) {
  const ParamTable table = MakeTable();
  constexpr int64_t kSteps = 12;
  std::vector<float> expected;
  const std::vector<std::vector<std::vector<int32_t>>> leases = {
      {{0, 1, 2, 3, 4}},          // one process does all
      {{0, 3}, {1, 2, 4}},        // two
      {{4}, {3}, {2}, {1}, {0}},  // five
  };
  uint32_t seed = 1;
  for (int servers = 1; servers <= 3; ++servers) {
    for (int shards = 1; shards <= 2; ++shards) {
      for (const auto& who : leases) {
        Servers cluster(table, {.replicas = 5,
                                .servers = servers,
                                .shards = shards,
                                .optimizer = "adam",
                                .learning_rate = 0.01f,
                                .held_bytes_budget = 150'000});
        cluster.Initialize();
        const auto weights = Train(cluster, table, who, 0, kSteps, seed += 10, true);
        if (expected.empty()) expected = weights;
        ASSERT_EQ(weights, expected)
            << servers << " servers, " << shards << " shards, " << who.size() << " workers";
      }
    }
  }
  for (const uint64_t delay_seed : {11, 12, 13}) {
    Servers cluster(table, {.replicas = 5,
                            .servers = 2,
                            .shards = 2,
                            .optimizer = "adam",
                            .learning_rate = 0.01f,
                            .delay_seed = delay_seed});
    cluster.Initialize();
    ASSERT_EQ(Train(cluster, table, leases[delay_seed % 3], 0, kSteps, seed += 10, true), expected)
        << "delay seed " << delay_seed;
  }
  float moved = 0;
  for (const float w : expected) {
    ASSERT_TRUE(std::isfinite(w));
    moved += std::abs(w);
  }
  EXPECT_GT(moved, 1) << "nothing was trained";
}

// Elements whose norms are summed belong to many slices, in other places with other servers.
JobOptions ClippedJob() {
  return {.replicas = 3, .optimizer = "adam", .learning_rate = 0.01f, .clip_norm = 20};
}

void ExpectTwoPhasesToGiveTheSameBits(const std::string& optimizer) {
  const ParamTable table = MakeTable();
  constexpr int64_t kSteps = 8;
  JobOptions job = ClippedJob();
  job.optimizer = optimizer;
  job.clip_norm = std::numeric_limits<float>::infinity();
  Servers plain(table, job);
  plain.Initialize();
  const std::vector<float> unclipped = Train(plain, table, {{0, 1, 2}}, 0, kSteps, 1, true);
  std::vector<float> expected;
  uint32_t seed = 1;
  for (int servers = 1; servers <= 3; ++servers) {
    for (const auto& who : std::vector<std::vector<std::vector<int32_t>>>{
             {{0, 1, 2}}, {{1}, {0, 2}}, {{2}, {1}, {0}}}) {
      job = ClippedJob();
      job.optimizer = optimizer;
      job.servers = servers;
      job.shards = 1 + static_cast<int>(who.size()) % 2;
      job.delay_seed = seed % 2 == 0 ? seed : 0;
      Servers cluster(table, job);
      cluster.Initialize();
      const auto weights = Train(cluster, table, who, 0, kSteps, seed += 11, true);
      if (expected.empty()) expected = weights;
      ASSERT_EQ(weights, expected) << servers << " servers, " << who.size() << " workers";
    }
  }
  EXPECT_NE(expected, unclipped) << "nothing was clipped";
}

TEST(BspClusterTest, ClippingByNormGivesTheSameBitsWhateverServersWorkersAndTiming) {
  ExpectTwoPhasesToGiveTheSameBits("adam");
}

TEST(BspClusterTest, LambGivesTheSameBitsWhateverServersWorkersAndTiming) {
  ExpectTwoPhasesToGiveTheSameBits("lamb");
}

JobOptions CodecJob() {
  return {.replicas = 3, .shards = 2, .optimizer = "momentum", .learning_rate = 0.01f};
}

// Four steps of three replicas give the same weights, `result` if any, with `job(servers, seed)`
// for each number of servers, by one worker and by three.
void ExpectTheSameBits(const ParamTable& table, const std::vector<int>& numbers_of_servers,
                       const std::function<JobOptions(int servers, uint32_t seed)>& job,
                       std::vector<float>* result = nullptr) {
  std::vector<float> expected;
  uint32_t seed = 1;
  for (const int servers : numbers_of_servers) {
    for (const auto& who :
         std::vector<std::vector<std::vector<int32_t>>>{{{0, 1, 2}}, {{2}, {1}, {0}}}) {
      Servers cluster(table, job(servers, seed));
      cluster.Initialize();
      const auto weights = Train(cluster, table, who, 0, 4, seed += 10, true);
      if (expected.empty()) expected = weights;
      ASSERT_EQ(weights, expected) << servers << " servers, " << who.size() << " workers";
    }
  }
  if (result != nullptr) *result = expected;
}

// A codec encodes slice by slice; where a parameter is cut must not show, and residuals must follow
// their replica, whichever process holds it.
TEST(BspClusterTest, ACodecGivesTheSameBitsWhateverServersAndWorkers) {
  for (const std::string& name : CodecNames()) {
    const auto codec = *MakeCodec(name);
    const Init normal = {Init::Kind::kTruncatedNormal, 0.5f};
    const ParamTable table = *ParamTable::Make({
        {.name = "big", .shape = {500, 601}, .init = normal, .codec = codec},
        {.name = "mean", .shape = {13}, .kind = ParamSpec::Kind::kStatistic},
        {.name = "plain", .shape = {77}, .init = normal},
        {.name = "odd", .shape = {5, 1001}, .init = normal, .codec = codec},
    });
    std::set<size_t> cuts;  // numbers of slices
    const auto job = [&](int servers, uint32_t seed) {
      cuts.insert(MakePartition(table, servers).slices.size());
      JobOptions options = CodecJob();
      options.held_bytes_budget = 150'000;
      options.servers = servers;
      options.delay_seed = seed;
      return options;
    };
    ASSERT_NO_FATAL_FAILURE(ExpectTheSameBits(table, {1, 3}, job)) << name;
    EXPECT_EQ(cuts.size(), 2u) << "the parameters were cut alike";
  }
}

// Through shared memory, too: tests/master/grpc_cluster_test.cc. (Not here: tsan does not see that
// rings order what both sides do, as each has a mapping of its own.)
ParamTable PulledTable(const std::shared_ptr<const Codec>& codec) {
  const Init normal = {Init::Kind::kTruncatedNormal, 0.5f};
  return *ParamTable::Make({
      {.name = "big", .shape = {500, 601}, .init = normal, .pull_codec = codec},
      {.name = "mean", .shape = {13}, .kind = ParamSpec::Kind::kStatistic},
      {.name = "plain", .shape = {77}, .init = normal},
      {.name = "both",
       .shape = {5, 1001},
       .init = normal,
       .codec = *MakeCodec("int8"),
       .pull_codec = codec},
  });
}

TEST(BspClusterTest, PulledParametersAreTheSameBitsForEverybody) {
  std::set<std::vector<float>> results;
  for (const char* name : {"bf16", "int8", "1bit", "topk"}) {
    const auto codec = *MakeCodec(name);
    std::vector<float> expected;
    const auto job = [](int servers, uint32_t seed) {
      JobOptions options = CodecJob();
      options.servers = servers;
      options.delay_seed = servers == 2 ? 0 : seed;
      return options;
    };
    ASSERT_NO_FATAL_FAILURE(ExpectTheSameBits(PulledTable(codec), {1, 2, 3}, job, &expected))
        << name;
    EXPECT_TRUE(results.insert(expected).second) << name << " changed nothing";
    if (codec->has_residual()) continue;
    std::vector<std::byte> encoded(codec->EncodedSize(16384));
    const std::span<const float> first(expected.data(), 16384);
    std::vector<float> again(first.size());
    codec->Encode(first, {}, encoded);
    codec->Decode(encoded, 16384, 0, again);
    EXPECT_TRUE(std::ranges::equal(again, first)) << "read what " << name << " cannot hold";
  }
}

TEST(BspClusterTest, WhoHoldsTheParametersIsSentWhatTheyChangedBy) {
  constexpr int64_t kSteps = 4, kSize = 20'000;
  const auto codec = *MakeCodec("topk");
  const ParamTable table =
      *ParamTable::Make({{.name = "w", .shape = {kSize}, .pull_codec = codec}});
  JobOptions job = CodecJob();
  job.replicas = 2;
  Servers cluster(table, job);
  cluster.Initialize();
  Train(cluster, table, {{0}, {1}}, 0, kSteps, 1, true);
  // Each of two: the first ones, and the last ones once more, whole; and what each step changed.
  EXPECT_EQ(cluster.server(0).stats().bytes_out,
            2 * (2 * kSize * 4 + kSteps * static_cast<int64_t>(codec->EncodedSize(kSize))));
}

// Waits for a number of on_cut calls and keeps their files.
class CutLog {
 public:
  ServerEvents events() {
    ServerEvents events;
    events.on_cut = [this](int64_t, const std::string& file, const absl::Status& status) {
      MutexLock lock(mu_);
      EXPECT_TRUE(status.ok()) << status;
      files_.push_back(file);
      changed_.NotifyAll();
    };
    return events;
  }
  std::vector<std::string> Await(size_t n) {
    MutexLock lock(mu_);
    while (files_.size() < n) changed_.Wait(mu_);
    return files_;
  }

 private:
  Mutex mu_;
  CondVar changed_;
  std::vector<std::string> files_ ABSL_GUARDED_BY(mu_);
};

void ExpectCutsToResume(JobOptions job, const ParamTable& table = MakeTable()) {
  const harness::TemporaryFolder temporary;
  const std::string& directory = temporary.path();
  const std::vector<std::vector<int32_t>> leases = {{0, 2}, {1}};

  Servers whole(table, job);
  whole.Initialize();
  const auto at_cut = [&] {
    Servers until(table, job);
    until.Initialize();
    return Train(until, table, leases, 0, 5, 1, true);
  }();
  const auto uninterrupted = Train(whole, table, leases, 0, 11, 2, true);

  for (int from = 1; from <= 3; ++from) {
    CutLog cuts;
    job.servers = from;
    Servers first(table, job, cuts.events());
    first.Initialize();
    first.CutAt(5, directory);
    Train(first, table, leases, 0, 7, 3, true);  // goes on past the cut
    const std::vector<std::string> files = cuts.Await(static_cast<size_t>(from));
    const auto saved = ReadFullParams(files, table);
    ASSERT_TRUE(saved.ok()) << saved.status();
    const bool deltas = SendsDeltas(table.specs()[0].pull_codec.get());
    ASSERT_EQ(*saved == at_cut, !deltas) << "with deltas workers hold something else";
    for (int to = 1; to <= 3; ++to) {
      job.servers = to;
      Servers second(table, job);
      const absl::Status restored = second.Restore(files, 5);
      ASSERT_TRUE(restored.ok()) << restored;
      const auto resumed = Train(second, table, {{0}, {1, 2}}, 5, 11, 4, true);
      ASSERT_EQ(resumed, uninterrupted) << from << " to " << to;
    }
  }
}

TEST(BspClusterTest, ACutIsTheStateAtItsClockAndResumesAnywhereToTheSameBits) {
  ExpectCutsToResume({.replicas = 3, .optimizer = "adam", .learning_rate = 0.01f});
}

// What the workers hold is not what the servers do; push codecs' residuals are not the servers'.
TEST(BspClusterTest, ACutHoldsWhatWorkersHoldWhereTheyPullDeltas) {
  const Init normal = {Init::Kind::kTruncatedNormal, 0.5f};
  const ParamTable table = *ParamTable::Make(
      {{.name = "a", .shape = {300, 611}, .init = normal, .pull_codec = *MakeCodec("int8")},
       {.name = "b", .shape = {77}, .init = normal}});
  ExpectCutsToResume(CodecJob(), table);
}

TEST(BspClusterTest, ACutBetweenTwoPhasesResumesAnywhereToTheSameBits) {
  JobOptions job = ClippedJob();
  job.optimizer = "lamb";
  ExpectCutsToResume(job);
}

// LAMB with clipping in float64, parameter by parameter, beside three servers.
TEST(BspClusterTest, LambFollowsItsFormulaOverWholeParameters) {
  const ParamTable table = MakeTable();
  JobOptions job = {.replicas = 2, .servers = 3, .optimizer = "lamb", .learning_rate = 0.05f};
  job.weight_decay = 0.01f;
  job.clip_norm = 30;
  constexpr int64_t kSteps = 3;
  std::vector<float> start;
  {
    Servers cluster(table, job);
    cluster.Initialize();
    start = Train(cluster, table, {{0, 1}}, 0, 0, 1, true);
  }
  Servers cluster(table, job);
  cluster.Initialize();
  const std::vector<float> got = Train(cluster, table, {{0}, {1}}, 0, kSteps, 1, true);

  std::vector<double> w(start.begin(), start.end()), m(w.size()), v(w.size()), mean(w.size());
  std::vector<float> as_float(w.size()), gradient(w.size());
  double clipped = 1;
  for (int64_t step = 0; step < kSteps; ++step) {
    std::copy(w.begin(), w.end(), as_float.begin());
    std::fill(mean.begin(), mean.end(), 0.0);
    for (int32_t replica = 0; replica < 2; ++replica) {
      Gradient(table, as_float, step, replica, gradient);
      for (size_t i = 0; i < w.size(); ++i) mean[i] += gradient[i] / 2.0;
    }
    const auto for_weights = [&](auto visit) {
      for (ParamId p = 0; p < static_cast<ParamId>(table.specs().size()); ++p) {
        const ParamSpec& spec = table.specs()[static_cast<size_t>(p)];
        const auto begin = static_cast<size_t>(table.offset(p));
        if (spec.kind == ParamSpec::Kind::kWeight) {
          visit(spec, begin, begin + static_cast<size_t>(spec.size()));
        }
      }
    };
    double square = 0;
    for_weights([&](const ParamSpec&, size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i) square += mean[i] * mean[i];
    });
    const double factor = std::min(1.0, 30 / std::sqrt(square));
    clipped = std::min(clipped, factor);
    const double t = static_cast<double>(step + 1);
    for_weights([&](const ParamSpec& spec, size_t begin, size_t end) {
      std::vector<double> r(end);
      double norm_w = 0, norm_r = 0;
      for (size_t i = begin; i < end; ++i) {
        const double g = factor * mean[i];
        m[i] = 0.9 * m[i] + 0.1 * g;
        v[i] = 0.999 * v[i] + 0.001 * g * g;
        r[i] = m[i] / (1 - std::pow(0.9, t)) / (std::sqrt(v[i] / (1 - std::pow(0.999, t))) + 1e-6) +
               (spec.decay ? 0.01 * w[i] : 0);
        norm_w += w[i] * w[i];
        norm_r += r[i] * r[i];
      }
      const double trust = spec.decay && norm_w > 0 && norm_r > 0 ? std::sqrt(norm_w / norm_r) : 1;
      for (size_t i = begin; i < end; ++i) w[i] -= 0.05 * spec.lr_scale * trust * r[i];
    });
  }
  EXPECT_LT(clipped, 0.9) << "nothing was clipped";
  const auto mean_part = static_cast<size_t>(table.offset(2));
  double moved = 0;
  for (size_t i = 0; i < w.size(); ++i) {
    if (i >= mean_part && i < mean_part + 13) continue;  // the statistic
    // Some 40 operations an element and step; a direction of 1 to 3 times the rate and ratio
    // turns where the gradient is almost 0, and epsilon with it.
    ASSERT_NEAR(got[i], w[i], 1e-5) << "element " << i;
    moved += std::abs(w[i] - start[i]);
  }
  EXPECT_GT(moved / static_cast<double>(w.size()), 0.01);
}

TEST(BspClusterTest, AServerWithoutSlicesSavesAnEmptyPart) {
  const ParamTable table = *ParamTable::Make({{.name = "w", .shape = {3}}});
  const harness::TemporaryFolder directory;
  CutLog cuts;
  Servers cluster(table, {.servers = 3}, cuts.events());
  cluster.Initialize();
  cluster.CutAt(0, directory.path());
  const auto saved = ReadFullParams(cuts.Await(3), table);
  EXPECT_TRUE(saved.ok()) << saved.status();
}

TEST(BspClusterTest, ALeaseThatIsRedoneByAnotherChangesNothing) {
  const ParamTable table = MakeTable();
  const JobOptions job = {
      .replicas = 3, .servers = 2, .optimizer = "momentum", .learning_rate = 0.1f};
  Servers plain(table, job);
  plain.Initialize();
  const auto expected = Train(plain, table, {{0, 1, 2}}, 0, 6, 1, true);

  Servers cluster(table, job);
  cluster.Initialize();
  Train(cluster, table, {{0, 1, 2}}, 0, 4, 2, true);
  {
    // A worker with replica 1 pushes half of its step and dies; its memory goes with it.
    auto client = *ConnectWorker(cluster, table, 7);
    std::vector<float> arena(static_cast<size_t>(table.arena_size())), grad(arena.size());
    client->SetArena(arena);
    client->Pull(1, 4, 4);
    ASSERT_TRUE(client->Wait(4).ok());
    Gradient(table, arena, 4, 1, grad);
    for (const ParamId p : {0, 2}) {
      const auto size = static_cast<size_t>(table.specs()[static_cast<size_t>(p)].size());
      client->Push(1, 4, p,
                   std::span<const float>(grad).subspan(static_cast<size_t>(table.offset(p)), size),
                   0, true);
    }
    client.reset();
  }
  EXPECT_EQ(Train(cluster, table, {{0}, {1, 2}}, 4, 6, 3, true), expected);
}

// The process that gathers the norms dies with some slices' totals sent, or none, or all.
TEST(BspClusterTest, NormsAreGatheredAnewByWhoeverGoesOnWithReplica0) {
  const ParamTable table = MakeTable();
  JobOptions job = ClippedJob();
  job.servers = 2;
  Servers plain(table, job);
  plain.Initialize();
  const auto expected = Train(plain, table, {{0, 1, 2}}, 0, 6, 1, true);
  for (int round = 0; round < 8; ++round) {
    Servers cluster(table, job);
    cluster.Initialize();
    Train(cluster, table, {{0, 1, 2}}, 0, 4, 2, true);
    {
      auto client = *ConnectWorker(cluster, table, 7);
      std::vector<float> arena(static_cast<size_t>(table.arena_size()));
      std::vector<std::vector<float>> grads(3, std::vector<float>(arena.size()));
      client->SetArena(arena);
      client->Pull(1, 4, 4);
      ASSERT_TRUE(client->Wait(4).ok());
      for (int32_t v = 0; v < 3; ++v) {
        std::vector<float>& grad = grads[static_cast<size_t>(v)];
        Gradient(table, arena, 4, v, grad);
        for (ParamId p = 0; p < static_cast<ParamId>(table.specs().size()); ++p) {
          const auto size = static_cast<size_t>(table.specs()[static_cast<size_t>(p)].size());
          client->Push(
              v, 4, p,
              std::span<const float>(grad).subspan(static_cast<size_t>(table.offset(p)), size), 0,
              false);
        }
      }
      client->Flush();
      std::this_thread::sleep_for(std::chrono::microseconds(100 * round));
    }
    ASSERT_EQ(Train(cluster, table, {{0}, {1, 2}}, 4, 6, 3, true), expected) << "round " << round;
  }
}

// Replica v adds 1 to element v of every parameter at each step, so weights[v] counts what a reader
// sees of v.
TEST(SspClusterTest, NoReadIsStalerThanTheBound) {
  constexpr int kReplicas = 4;
  const ParamTable table =
      *ParamTable::Make({{.name = "a", .shape = {kReplicas}}, {.name = "b", .shape = {30'000}}});
  for (const int64_t staleness : {0, 1, 3}) {
    Servers cluster(table, {.mode = "SSP",
                            .staleness = staleness,
                            .replicas = kReplicas,
                            .servers = 2,
                            .shards = 2,
                            .learning_rate = kReplicas});
    cluster.Initialize();
    std::vector<std::thread> threads;
    for (int32_t v = 0; v < kReplicas; ++v) {
      threads.emplace_back([&, v] {
        auto client = *ConnectWorker(cluster, table, v);
        std::vector<float> arena(static_cast<size_t>(table.arena_size())), grad(30'000, 0.0f);
        grad[static_cast<size_t>(v)] = -1;
        Jitter jitter(static_cast<uint32_t>(100 * staleness + v));
        client->SetArena(arena);
        client->Pull(v, 0, -1);
        for (int64_t clock = 0; clock < 60; ++clock) {
          ASSERT_TRUE(client->Wait(clock).ok());
          for (int32_t u = 0; u < kReplicas; ++u) {
            for (ParamId p = 0; p < 2; ++p) {
              const float seen = arena[static_cast<size_t>(table.offset(p) + u)];
              ASSERT_GE(seen, static_cast<float>(u == v ? clock : clock - staleness))
                  << "replica " << v << " at clock " << clock << " reads of " << u;
            }
          }
          jitter();
          if (clock + 1 == 60) break;
          client->Push(v, clock, 0, std::span<const float>(grad).first(kReplicas), 0, true);
          client->Push(v, clock, 1, grad, 1, true);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
}

TEST(AsyncClusterTest, EveryGradientCountsExactlyOnce) {
  const ParamTable table = *ParamTable::Make({{.name = "a", .shape = {40'000}}});
  Servers cluster(table,
                  {.mode = "ASYNC", .replicas = 4, .servers = 3, .shards = 2, .learning_rate = 4});
  cluster.Initialize();
  std::vector<std::thread> threads;
  for (int32_t v = 0; v < 4; ++v) {
    threads.emplace_back([&, v] {
      auto client = *ConnectWorker(cluster, table, v);
      std::vector<float> arena(static_cast<size_t>(table.arena_size()));
      const std::vector<float> grad(40'000, -1.0f);
      client->SetArena(arena);
      for (int64_t step = 0; step < 50; ++step) {
        client->Push(v, step, 0, grad, 0, false);
        if (step % 7 == 3) client->Push(v, step, 0, grad, 0, false);  // sent twice
      }
      client->PullAtClock(v, 50);
      ASSERT_TRUE(client->Wait(50).ok());
      for (int64_t i = 0; i < 40'000; ++i) ASSERT_EQ(arena[static_cast<size_t>(i)], 200.0f);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace muster::ps
