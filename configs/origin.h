// Origin, Origins, Problems: where each value of a job came from, and what is wrong with it.
//
// A job is put together from a file and flags; every rule reports its problems by the place that
// the user can edit. Values are named by their path in the job file: "trainingInput.workerCount",
// "trainingInput.args[2]". Value types: thread-compatible.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace muster {

// A place in a file, a whole file (line 0), or a flag of the command line (line 0, the name starts
// with '-').
struct Origin {
  std::string name;
  int line = 0;    // from 1
  int column = 0;  // from 1

  bool is_flag() const { return name.starts_with('-'); }
  bool operator==(const Origin&) const = default;
};

// "F:3:7", "F" for a whole file, "--worker-count" for a flag.
std::string ToString(const Origin& origin);

class Origins {
 public:
  // `root` stands for the job as a whole: the file, or the command line when there is none.
  explicit Origins(Origin root = {"command line"}) : root_(std::move(root)) {}

  void set_root(Origin root) { root_ = std::move(root); }
  const Origin& root() const { return root_; }
  void Set(const std::string& path, Origin origin) { origins_[path] = std::move(origin); }
  // Forgets `path` and everything below it.
  void Erase(const std::string& path);
  // True when the user gave a value at exactly this path.
  bool Has(const std::string& path) const { return origins_.contains(path); }
  // Where `path` was given; for a path that was not, where the nearest one above it was.
  const Origin& Find(const std::string& path) const;

 private:
  Origin root_;
  std::map<std::string, Origin> origins_;
};

// "trainingInput.args[2]" -> "trainingInput.args" -> "trainingInput" -> "".
std::string ParentPath(std::string_view path);
// "trainingInput.args" and 2 -> "trainingInput.args[2]".
std::string IndexPath(std::string_view path, size_t index);
// "a" and "b" -> "a.b"; "" and "b" -> "b".
std::string JoinPath(std::string_view path, std::string_view name);

struct Problem {
  Origin origin;
  std::string field;  // path; may be empty
  std::string what;   // what is wrong
  std::string write;  // what to write instead

  bool operator==(const Problem&) const = default;
};

// One line: `F:LINE:COL: field: what is wrong; what to write`. The field is left out where the
// origin is a flag, whose name says it.
std::string ToString(const Problem& problem);

class Problems {
 public:
  // The same problem twice counts once. Only the first thousand are kept; the rest are counted.
  void Add(Origin origin, std::string field, std::string what, std::string write);
  bool empty() const { return problems_.empty(); }
  size_t size() const { return problems_.size() + dropped_; }
  // By place: files first, by line and column, then flags in the order in which they were found.
  std::vector<Problem> Sorted() const;
  // One line each, at most `limit` of them, and then how many more there are. Empty when there is
  // none.
  std::string Text(size_t limit = 100) const;

 private:
  std::vector<Problem> problems_;
  size_t dropped_ = 0;
};

}  // namespace muster
