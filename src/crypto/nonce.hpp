#pragma once

#include "base/bytes.hpp"

#include <optional>
#include <utility>

namespace curvegate::crypto {

/// The number of a packet under one short-term key pair and direction. Not an integer: it comes from a
/// SendCounter or from a packet, and goes to a packet or a Nonce.
struct PacketNumber {
    std::uint64_t value = 0;
    friend auto operator<=>(const PacketNumber&, const PacketNumber&) = default;
};

/// How a protocol writes a packet number: 8 bytes.
using NumberForm = ByteArray<8> (*)(PacketNumber) noexcept;

/// A number of our own that no packet has yet. It is used up by the box that is sealed with it: move-only,
/// and what was moved from is kNever, which no counter gives.
class FreshNumber {
  public:
    static constexpr PacketNumber kNever{~std::uint64_t{0}};

    FreshNumber(FreshNumber&& other) noexcept : number_(std::exchange(other.number_, kNever)) {}
    FreshNumber& operator=(FreshNumber&& other) noexcept {
        number_ = std::exchange(other.number_, kNever);
        return *this;
    }
    FreshNumber(const FreshNumber&) = delete;
    FreshNumber& operator=(const FreshNumber&) = delete;
    ~FreshNumber() = default;

    /// For the header of its packet.
    [[nodiscard]] PacketNumber number() const noexcept { return number_; }

  private:
    friend class SendCounter;
    explicit FreshNumber(PacketNumber number) noexcept : number_(number) {}
    PacketNumber number_;
};

/// Hands out each number once, rising by one, and never 2^64-1 nor anything after it (PROTOCOL 5.3).
class SendCounter {
  public:
    explicit SendCounter(PacketNumber first) noexcept : next_(first.value) {}
    SendCounter(SendCounter&& other) noexcept : next_(std::exchange(other.next_, kNever)) {}
    SendCounter& operator=(SendCounter&& other) noexcept {
        next_ = std::exchange(other.next_, kNever);
        return *this;
    }
    SendCounter(const SendCounter&) = delete;  // two copies would give one number twice
    SendCounter& operator=(const SendCounter&) = delete;
    ~SendCounter() = default;

    /// Returns nullopt if the counter is exhausted: then the session must end.
    [[nodiscard]] std::optional<FreshNumber> next() noexcept {
        if (next_ == kNever) return std::nullopt;
        return FreshNumber({next_++});
    }
    [[nodiscard]] bool exhausted() const noexcept { return next_ == kNever; }

    static constexpr std::uint64_t kNever = FreshNumber::kNever.value;

  private:
    std::uint64_t next_;
};

/// What a box under short-term keys carries; each has its own 16-byte prefix (PROTOCOL 2.3).
enum class ShortPurpose { hello, initiate, client_message, server_message };
/// What a box or secret box under a long-term or minute key carries; 8-byte prefixes.
enum class LongPurpose { cookie, vouch, minute_key };

/// 16 bytes that are never given twice for one key: the vault makes them for boxes of long-term keys, the
/// cookie keeper for minute keys.
struct LongTermNonceTag;
using LongTermNonce = Strong<LongTermNonceTag, 16>;

/// The 24 bytes that XSalsa20 takes; built from a purpose and a number only.
class Nonce {
  public:
    /// `number` is the packet number as its 8 bytes on the wire (its byte order is the protocol's).
    [[nodiscard]] static Nonce make(ShortPurpose purpose, FixedBytes<8> number) noexcept;
    /// Of a box that we seal.
    [[nodiscard]] static Nonce make(ShortPurpose purpose, FreshNumber number, NumberForm form) noexcept {
        return make(purpose, form(number.number()));
    }
    [[nodiscard]] static Nonce make(LongPurpose purpose, const LongTermNonce& nonce) noexcept;
    [[nodiscard]] FixedBytes<24> bytes() const noexcept { return bytes_; }

  private:
    ByteArray<24> bytes_{};
};

}  // namespace curvegate::crypto
