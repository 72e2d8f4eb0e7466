#include "ps/block.h"

#include "ps/slice.h"

namespace muster::ps {

std::unique_ptr<Block> MakeBlock(const BlockContext& context, int32_t id) {
  return std::make_unique<Slice>(context, id);
}

}  // namespace muster::ps
