#include "worker/modules/speech_commands/device_front_end.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "kernels/op.h"
#include "worker/modules/speech_commands/dataset.h"

namespace muster::worker {
namespace {

constexpr int64_t kSoundsAtOnce = 128;  // 30 MB of frames and spectra
constexpr size_t kClipsAtOnce = 64;     // on their way to the device, at the start

// The transform's bins, rounded up so that rows of the spectrum begin at 16 bytes.
int64_t BinsOf(const MfccFrontEnd& front_end) {
  return (front_end.last_bin() - front_end.first_bin() + 1 + 3) / 4 * 4;
}

template <typename T>
Buffer Put(Stream& stream, std::span<const T> from) {
  Buffer buffer(stream.device(), from.size_bytes());
  stream.device().ops().Copy(stream, buffer.data<void>(), from.data(), from.size_bytes(),
                             CopyDirection::kHostToDevice);
  return buffer;
}

class SpeechFrontEnd final : public DeviceFrontEnd {
 public:
  SpeechFrontEnd(const SpeechDataset& data, bool keeps)
      : data_(data),
        front_end_(data.front_end()),
        keeps_(keeps),
        clip_samples_(front_end_.settings().clip_samples),
        bins_(BinsOf(front_end_)) {}

  // Fills the device's memory.
  absl::Status Prepare(Stream& stream, int64_t max_batch) {
    if (keeps_) RETURN_IF_ERROR(KeepClips(stream));
    noise_ = Put(stream, data_.noise().samples());
    const std::vector<float> filters = front_end_.FourierFilters(static_cast<int>(bins_));
    filters_ = Put<float>(stream, filters);
    dct_ = Put(stream, front_end_.dct());
    mel_first_ = Put(stream, front_end_.mel_first());
    mel_begin_ = Put(stream, front_end_.mel_begin());
    mel_weights_ = Put(stream, front_end_.mel_weights());
    const int64_t rows = std::min(max_batch, kSoundsAtOnce) * front_end_.frames();
    const auto make = [&](int64_t width) {
      return Buffer(stream.device(), static_cast<size_t>(rows * width) * sizeof(float));
    };
    frames_ = make(front_end_.settings().window);
    spectrum_ = make(2 * bins_);
    log_mel_ = make(front_end_.settings().mel_channels);
    return stream.Synchronize();
  }

  int64_t record_bytes() const override {
    const int64_t clip = keeps_ ? 0 : clip_samples_ * int64_t{sizeof(int16_t)};
    return (int64_t{sizeof(SoundRecord)} + clip + 15) / 16 * 16;
  }

  absl::Status GetRecord(int64_t index, int64_t draw, std::span<std::byte> record,
                         int32_t* label) const override {
    SoundRecord sound;
    if (keeps_) {
      const Kept& kept = kept_[static_cast<size_t>(index)];
      sound.clip = kept.clip;
      *label = kept.label;
    } else {
      const std::span clip(reinterpret_cast<int16_t*>(record.data() + sizeof(sound)),
                           static_cast<size_t>(clip_samples_));
      ASSIGN_OR_RETURN(const bool heard, data_.GetClip(index, clip, label));
      if (heard) sound.clip = SoundRecord::kFollows;
    }
    const SpeechDataset::Mixture mixture = data_.MixtureOf(index, draw, *label);
    sound.shift = mixture.shift;
    if (mixture.volume > 0) {
      sound.noise = mixture.noise.data() - data_.noise().samples().data();
      sound.scale = mixture.volume / 32768;
    }
    std::memcpy(record.data(), &sound, sizeof(sound));
    return absl::OkStatus();
  }

  void Compute(Stream& stream, int64_t n, const std::byte* records, float* inputs) override {
    const FrontEndSettings& s = front_end_.settings();
    SoundArgs sounds{.samples = clip_samples_,
                     .frames = front_end_.frames(),
                     .window = s.window,
                     .stride = s.stride,
                     .clips = static_cast<const int16_t*>(clips_.get()),
                     .noise = noise_.data<int16_t>(),
                     .record_bytes = record_bytes()};
    const MelArgs mel{.bins = bins_,
                      .channels = s.mel_channels,
                      .floor = MfccFrontEnd::kFloor,
                      .first = mel_first_.data<int32_t>(),
                      .begin = mel_begin_.data<int32_t>(),
                      .weights = mel_weights_.data<float>()};
    const ConstTensor filters(filters_.data(), {2 * bins_, s.window});
    const ConstTensor dct(dct_.data(), {s.coefficients, s.mel_channels});
    for (int64_t first = 0; first < n; first += kSoundsAtOnce) {
      const int64_t count = std::min(n - first, kSoundsAtOnce), rows = count * sounds.frames;
      const Tensor frames(frames_.data(), {count, sounds.frames, s.window});
      const Tensor spectrum(spectrum_.data(), {rows, 2 * bins_});
      const Tensor log_mel(log_mel_.data(), {rows, s.mel_channels});
      const Tensor coefficients(inputs + first * data_.input_size(), {rows, s.coefficients});
      sounds.records = records + first * sounds.record_bytes;
      FrameSounds(stream, sounds, frames);
      MatMul(stream, frames.Reshape({rows, s.window}), filters, spectrum,
             {.trans_b = true, .float32 = true});
      LogMel(stream, mel, spectrum, log_mel);
      MatMul(stream, log_mel, dct, coefficients, {.trans_b = true, .float32 = true});
    }
  }

 private:
  // Of each sample, where the device keeps the clips.
  struct Kept {
    int64_t clip = SoundRecord::kSilence;
    int32_t label = 0;
  };

  absl::Status KeepClips(Stream& stream) {
    Device& device = stream.device();
    const auto size = static_cast<size_t>(data_.size());
    const auto width = static_cast<size_t>(clip_samples_), clip_bytes = width * sizeof(int16_t);
    ASSIGN_OR_RETURN(void* const memory, device.Allocate(size * clip_bytes));
    clips_ = {memory,
              [&device, bytes = size * clip_bytes](void* clips) { device.Free(clips, bytes); }};
    std::vector<int16_t> part(kClipsAtOnce * width);
    for (size_t first = 0; first < size; first += kClipsAtOnce) {
      const size_t count = std::min(size - first, kClipsAtOnce);
      for (size_t i = 0; i < count; ++i) {
        Kept& kept = kept_.emplace_back();
        const auto index = static_cast<int64_t>(first + i);
        const auto clip = std::span(part).subspan(i * width, width);
        ASSIGN_OR_RETURN(const bool heard, data_.GetClip(index, clip, &kept.label));
        if (heard) kept.clip = index * clip_samples_;
      }
      device.ops().Copy(stream, static_cast<std::byte*>(memory) + first * clip_bytes, part.data(),
                        count * clip_bytes, CopyDirection::kHostToDevice);
      RETURN_IF_ERROR(stream.Synchronize());
    }
    return absl::OkStatus();
  }

  const SpeechDataset& data_;
  const MfccFrontEnd& front_end_;
  const bool keeps_;
  const int64_t clip_samples_;
  const int64_t bins_;
  Buffer noise_, filters_, dct_, mel_first_, mel_begin_, mel_weights_;
  Buffer frames_, spectrum_, log_mel_;
  std::shared_ptr<void> clips_;  // int16
  std::vector<Kept> kept_;       // by index
};

}  // namespace

absl::StatusOr<std::unique_ptr<DeviceFrontEnd>> MakeSpeechFrontEnd(const SpeechDataset& data,
                                                                   Device& device,
                                                                   int64_t max_batch, bool keeps) {
  auto front_end = std::make_unique<SpeechFrontEnd>(data, keeps);
  RETURN_IF_ERROR(front_end->Prepare(*device.MakeStream(), max_batch));
  return front_end;
}

}  // namespace muster::worker
