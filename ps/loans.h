// Loans: how many payloads on their way out still hold a buffer, which its owner may not change
// meanwhile.
//
// Take and any are the owner's thread's; a loan ends on whatever thread drops the payload.
#pragma once

#include <atomic>
#include <memory>
#include <utility>

namespace muster::ps {

class Loans {
 public:
  // The owner of a lent payload (rpc::Payload::Lend) of `buffer`, which it keeps.
  std::shared_ptr<const void> Take(std::shared_ptr<const void> buffer) const {
    return std::make_shared<const Loan>(std::move(buffer), out_);
  }
  // Whether somebody may still read; when not, what they read happened before.
  bool any() const { return out_->load(std::memory_order_acquire) > 0; }

 private:
  class Loan {
   public:
    Loan(std::shared_ptr<const void> buffer, std::shared_ptr<std::atomic<int>> out)
        : buffer_(std::move(buffer)), out_(std::move(out)) {
      out_->fetch_add(1, std::memory_order_relaxed);
    }
    ~Loan() { out_->fetch_sub(1, std::memory_order_release); }
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;

   private:
    const std::shared_ptr<const void> buffer_;
    const std::shared_ptr<std::atomic<int>> out_;
  };

  std::shared_ptr<std::atomic<int>> out_ = std::make_shared<std::atomic<int>>(0);
};

}  // namespace muster::ps
