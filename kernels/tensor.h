// Shape, Tensor and ConstTensor: typed, shaped views of memory that a Buffer or an arena owns.
//
// Value types, thread-compatible; they own nothing. A tensor is dense and row-major, and its memory
// belongs to one Device: on a GPU the pointer must not be read on the host. Sizes are in elements
// unless a name says `_bytes`.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "telemetry/check.h"

namespace muster {

enum class DType : uint8_t { kFloat32, kInt32, kUint32, kUint8 };

constexpr int64_t SizeOf(DType dtype) { return dtype == DType::kUint8 ? 1 : 4; }

template <typename T>
constexpr DType kDTypeOf = DType::kFloat32;
template <>
inline constexpr DType kDTypeOf<int32_t> = DType::kInt32;
template <>
inline constexpr DType kDTypeOf<uint32_t> = DType::kUint32;
template <>
inline constexpr DType kDTypeOf<uint8_t> = DType::kUint8;

// At most five dimensions, each >= 0.
class Shape {
 public:
  static constexpr int kMaxRank = 5;

  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) {
    for (const int64_t dim : dims) Append(dim);
  }

  void Append(int64_t dim) {
    CHECK_LT(rank_, kMaxRank);
    CHECK_GE(dim, 0);
    dims_[rank_++] = dim;
  }
  int rank() const { return rank_; }
  int64_t operator[](int i) const { return dims_[i]; }
  int64_t size() const {
    int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= dims_[i];
    return n;
  }
  // [first, dims ...]: a batch of things of this shape.
  Shape WithBatch(int64_t first) const {
    Shape shape{first};
    for (int i = 0; i < rank_; ++i) shape.Append(dims_[i]);
    return shape;
  }
  std::vector<int64_t> ToVector() const { return {dims_.begin(), dims_.begin() + rank_}; }
  std::string ToString() const;  // "[100, 98, 40, 1]"
  bool operator==(const Shape& other) const = default;

 private:
  std::array<int64_t, kMaxRank> dims_ = {};
  int rank_ = 0;
};

// A view that may only be read.
class ConstTensor {
 public:
  ConstTensor() = default;
  template <typename T>
  ConstTensor(const T* data, Shape shape)
      : data_(const_cast<T*>(data)), shape_(shape), dtype_(kDTypeOf<T>) {}

  // PRECONDITION: T is the tensor's type.
  template <typename T = float>
  const T* data() const {
    CHECK(kDTypeOf<T> == dtype_);
    return static_cast<const T*>(data_);
  }
  const Shape& shape() const { return shape_; }
  int64_t dim(int i) const { return shape_[i]; }
  int64_t size() const { return shape_.size(); }
  DType dtype() const { return dtype_; }
  bool empty() const { return data_ == nullptr; }
  // The same elements under another shape. PRECONDITION: as many elements.
  ConstTensor Reshape(Shape shape) const {
    CHECK_EQ(shape.size(), shape_.size());
    ConstTensor tensor = *this;
    tensor.shape_ = shape;
    return tensor;
  }

 protected:
  void* data_ = nullptr;
  Shape shape_;
  DType dtype_ = DType::kFloat32;
};

// A view that may be written: the const of the object does not reach its elements, as with
// std::span.
class Tensor : public ConstTensor {
 public:
  Tensor() = default;
  template <typename T>
  Tensor(T* data, Shape shape) : ConstTensor(data, shape) {}

  template <typename T = float>
  T* data() const {
    CHECK(kDTypeOf<T> == dtype_);
    return static_cast<T*>(data_);
  }
  Tensor Reshape(Shape shape) const {
    CHECK_EQ(shape.size(), shape_.size());
    Tensor tensor = *this;
    tensor.shape_ = shape;
    return tensor;
  }
};

}  // namespace muster
