// What a command of launch says to whoever runs it, for tests. Owned by one thread.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "cluster/command.h"

namespace muster::cluster {

struct Said {
  int code = 0;
  std::string out, err;
};

// Runs `command` with `words`, its streams being kept.
inline Said RunSaid(const std::vector<std::string>& words,
                    const std::function<int(const CommandContext&)>& command) {
  char *out = nullptr, *err = nullptr;
  size_t out_size = 0, err_size = 0;
  CommandContext context;
  context.words = words;
  context.out = open_memstream(&out, &out_size);
  context.err = open_memstream(&err, &err_size);
  Said said;
  said.code = command(context);
  std::fclose(context.out);
  std::fclose(context.err);
  said.out.assign(out, out_size);
  said.err.assign(err, err_size);
  std::free(out);
  std::free(err);
  return said;
}

}  // namespace muster::cluster
