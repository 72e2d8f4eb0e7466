// TrainingProgress: what the trainers' reports say together: the mean loss of a step, and how fast
// the job and each replica train.
//
// Pure: time is passed in. Owned by one thread (the coordinator's). Rates are per second of the
// coordinator's clock.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "configs/job.pb.h"
#include "master/control.pb.h"
#include "master/gather.h"
#include "master/history.h"

namespace muster::master {

class TrainingProgress {
 public:
  // Of `replicas` replicas that train from clock `start` on.
  TrainingProgress(const Training& training, int replicas, int64_t start);

  // The trainers are let go: the first rates count from now.
  void Begin(int64_t now_ms) { loss_ms_ = now_ms; }

  // What the replica did since its last report; nullopt when no time has passed. What it missed
  // then comes with the next one.
  std::optional<ThroughputPoint> Throughput(const Progress& report, int64_t now_ms);

  struct Point {
    LossPoint loss;
    double samples_per_second = 0;  // of the job since the last point; 0: not measured
  };
  // The point of the report's step once as many replicas have reported it as a step counts.
  std::optional<Point> Loss(const Progress& report, int64_t now_ms);

 private:
  const Training training_;
  const int counted_;  // replicas that a step counts
  const int64_t start_;
  LossGather losses_;
  int64_t loss_step_, loss_ms_ = 0;        // of the last point
  std::map<int32_t, int64_t> replica_ms_;  // by replica: time of its last report
  std::map<int32_t, int64_t> missed_;      // by replica: steps not in a point yet
};

}  // namespace muster::master
