// Figures and Table: the rounds of a row, and how rows are printed and kept.
//
// Value types, thread-compatible.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace muster::bench {

// A row's rounds.
struct Figures {
  std::vector<double> values, tops, ratios;
  void Add(double value, double top) {
    values.push_back(value);
    tops.push_back(top);
    ratios.push_back(value / top);
  }
};

// Prints rows, and keeps them for --json.
class Table {
 public:
  Table();  // prints the head
  // The medians. `asked` 0: nothing is.
  void Print(const char* name, const char* unit, const char* roof, const Figures& figures,
             double asked, bool is_time);
  // A row that another program measured: name, value, unit, roof, ratio, asked.
  void PrintMeasured(const nlohmann::json& row);
  void PrintSkipped(const char* name, const std::string& reason);
  const nlohmann::json& all() const { return all_; }

 private:
  nlohmann::json all_ = nlohmann::json::array();
};

}  // namespace muster::bench
