// Gathers what single roles report into what the job has: loss points, evaluations, checkpoints.
//
// Pure, owned by one thread (the coordinator's). Sums run in replica order, so the result does not
// depend on who reported first.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "master/control.pb.h"
#include "master/history.h"

namespace muster::master {

// Losses of the replicas at one step → their mean.
class LossGather {
 public:
  // Of a job whose steps count `replicas` replicas.
  explicit LossGather(int replicas) : replicas_(replicas) {}
  // The mean loss at `step` once so many replicas have reported it. Repeated reports replace
  // earlier ones; one that comes after the mean is ignored.
  std::optional<double> Add(int64_t step, int32_t replica, double loss);

 private:
  const int replicas_;
  int64_t newest_ = -1;                                   // the last step whose mean is told
  std::map<int64_t, std::map<int32_t, double>> waiting_;  // by step, by replica
};

// Shares of an evaluation → its confusion matrix and accuracy.
class EvaluationGather {
 public:
  // The whole evaluation once all its shares are in; a share that does not fit the others is
  // ignored. Whoever goes on with a replica may evaluate its share again: a repeated one replaces
  // the first, and those of a whole evaluation, or of one before it, are ignored.
  std::optional<EvaluationPoint> Add(const Evaluated& share);
  // True when an evaluation has some of its shares.
  bool pending() const { return !waiting_.empty(); }

 private:
  using Split = std::string;
  std::map<Split, std::map<int64_t, std::map<int32_t, Evaluated>>> waiting_;  // by step, replica
  std::map<Split, int64_t> newest_;  // step of the last whole one
};

// Parts of a checkpoint → the checkpoint.
class CutGather {
 public:
  struct Result {
    int64_t clock = 0;
    std::vector<std::string> files;      // by server
    std::vector<std::string> residuals;  // by replica
    std::string error;  // of the first that could not write, empty: all parts are there
  };
  // `replicas` whose residuals are parts, too.
  CutGather(int servers, int replicas) : servers_(servers), replicas_(replicas) {}
  // A server's part, or, with done.replica, a replica's residuals; a part that no such checkpoint
  // has is ignored.
  std::optional<Result> Add(int server, const CutDone& done);

 private:
  const int servers_, replicas_;
  std::map<int64_t, std::map<int, CutDone>> waiting_;
};

// Share of the diagonal, 0 for an empty matrix. `confusion` is [classes * classes].
double Accuracy(const std::vector<int64_t>& confusion);

// The matrix as aligned text with labels, rows are the true classes.
std::string FormatConfusion(const std::vector<int64_t>& confusion,
                            const std::vector<std::string>& labels);

}  // namespace muster::master
