// The confusion matrix of report.html. A pure function, thread-safe.
#pragma once

#include <string>

#include "master/history.h"

namespace muster::master {

// A heat table of the last testing evaluation that has counts, else of the last validation one; ""
// when there is none. Rows are the true classes with their recall, columns what was predicted with
// its precision.
std::string RenderConfusion(const RunHistory& history);

}  // namespace muster::master
