#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace curvegate::stream {

/// A queue in one array of a power of two, which grows and holds nothing while it is empty and released;
/// of fewer than 2^31 elements. T is default-constructible and movable.
template <class T>
class Ring {
  public:
    [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
    [[nodiscard]] T& operator[](std::size_t index) noexcept { return slots_[slot(index)]; }
    [[nodiscard]] const T& operator[](std::size_t index) const noexcept { return slots_[slot(index)]; }
    [[nodiscard]] T& front() noexcept { return slots_[head_]; }
    [[nodiscard]] const T& front() const noexcept { return slots_[head_]; }
    [[nodiscard]] T& back() noexcept { return (*this)[size_ - 1]; }

    void push_back(T value) {
        if (size_ == capacity_) grow();
        slots_[slot(size_++)] = std::move(value);
    }
    void pop_front() noexcept {
        slots_[head_] = T{};
        head_ = slot(1);
        --size_;
    }
    void pop_back() noexcept {
        back() = T{};
        --size_;
    }
    void clear() noexcept {
        while (!empty()) pop_front();
    }
    /// Gives the array back. Only when empty.
    void release() noexcept {
        slots_.reset();
        capacity_ = 0;
        head_ = 0;
    }

  private:
    static constexpr std::uint32_t kFirst = 4;

    [[nodiscard]] std::uint32_t slot(std::size_t index) const noexcept {
        return (head_ + static_cast<std::uint32_t>(index)) & (capacity_ - 1);
    }
    void grow() {
        const std::uint32_t larger = capacity_ == 0 ? kFirst : capacity_ * 2;
        auto slots = std::make_unique<T[]>(larger);
        for (std::size_t i = 0; i < size_; ++i) slots[i] = std::move((*this)[i]);
        slots_ = std::move(slots);
        capacity_ = larger;
        head_ = 0;
    }

    std::unique_ptr<T[]> slots_;
    std::uint32_t capacity_ = 0;
    std::uint32_t head_ = 0;
    std::uint32_t size_ = 0;
};

}  // namespace curvegate::stream
