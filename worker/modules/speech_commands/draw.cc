#include "worker/modules/speech_commands/draw.h"

#include "kernels/philox.h"

namespace muster::worker {

Draw DrawSample(uint64_t seed, Split split, int64_t index, int64_t draw, bool silence,
                const AugmentSettings& augment) {
  const bool training = split == Split::kTraining;
  const PhiloxKey key =
      DeriveKey(seed, HashName("speech_commands/augment"), static_cast<uint64_t>(split));
  const uint64_t at = static_cast<uint64_t>(training ? draw : index);
  const PhiloxBlock a = Philox(key, at, 0);
  const PhiloxBlock b = Philox(key, at, 1);
  Draw result = {.which = a[0], .where = a[1]};
  if (training) {
    const uint64_t range = uint64_t{2} * augment.time_shift + 1;
    result.shift = static_cast<int>(b[0] * range >> 32) - augment.time_shift;
  }
  if (silence) {
    result.volume = UniformFloat(a[2]);
  } else if (training ? UniformFloat(a[3]) < augment.background_frequency
                      : augment.background_frequency > 0) {
    result.volume = UniformFloat(a[2]) * static_cast<float>(augment.background_volume);
  }
  return result;
}

}  // namespace muster::worker
