#pragma once

#include "base/ip.hpp"
#include "base/random.hpp"
#include "base/result.hpp"
#include "base/time.hpp"
#include "crypto/keys.hpp"

#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

namespace curvegate::net {

struct AdmissionLimits {
    double rate = 64;  ///< unfinished handshakes a second a source, under load
    std::size_t burst = 2'048;
    std::size_t half_open_per_source = 2'048;
    std::size_t half_open = 16'384;
};

enum class AdmissionErrc {
    source_full = 1,  ///< half-open-per-source
    total_full,       ///< half-open, and this source's prefix is the fullest
    over_rate,        ///< under load: no token left for the source or its prefix
};
[[nodiscard]] constexpr std::string_view layer_name(AdmissionErrc) {
    return "admission";
}
[[nodiscard]] constexpr std::string_view describe(AdmissionErrc code) {
    switch (code) {
        case AdmissionErrc::source_full: return "too many unfinished handshakes from this address";
        case AdmissionErrc::total_full: return "too many unfinished handshakes in all";
        case AdmissionErrc::over_rate: return "too many handshakes from this address or its network";
    }
    return "unknown";
}

/// Budgets for strangers (docs/DESIGN.md, Admission), before any public-key work. Shared by all workers: one
/// mutex, taken twice a connection and never for a byte of data. Tables are of fixed size under a keyed hash;
/// addresses that fall together share a budget.
class Admission : public std::enable_shared_from_this<Admission> {
    struct Guest {
        std::size_t source_cell;
        std::size_t prefix_cell;
        std::function<void()> evict;
    };
    using Guests = std::list<Guest>;

  public:
    Admission(const AdmissionLimits& limits, RandomSource& random);

    /// One unfinished handshake; ends with its destruction.
    class Ticket {
      public:
        Ticket(Ticket&&) noexcept = default;
        Ticket& operator=(Ticket&&) = delete;
        ~Ticket();
        /// The handshake ended authorised: the token goes back and the source's network is known for a while.
        void succeed(Instant now);

      private:
        friend class Admission;
        Ticket(std::shared_ptr<Admission> owner, const IpAddress& source, Guests::iterator guest,
               bool took_tokens)
            : owner_(std::move(owner)), source_(source), guest_(guest), took_tokens_(took_tokens) {}
        std::shared_ptr<Admission> owner_;  // empty: moved from
        IpAddress source_;
        Guests::iterator guest_;
        bool took_tokens_;
    };

    /// `evict` ends that handshake if the table is full and a newcomer of a less crowded network needs its
    /// place; it is called at most once, from any thread, and must not call back.
    /// Errors: source_full, total_full, over_rate.
    [[nodiscard]] Result<Ticket> admit(const IpAddress& source, Instant now, bool vault_busy,
                                       std::function<void()> evict);
    [[nodiscard]] std::size_t half_open() const;

  private:
    struct Tokens {
        double left;
        Instant filled;
    };

    [[nodiscard]] std::size_t cell(const IpAddress& address, unsigned bits, std::size_t size) const;
    [[nodiscard]] bool under_load(Instant now, bool vault_busy);
    [[nodiscard]] bool take_tokens(const IpAddress& source, Instant now);
    void give_tokens(const IpAddress& source);
    [[nodiscard]] bool make_room(std::size_t prefix_cell, bool known);
    void leave(Guests::iterator guest);

    AdmissionLimits limits_;
    ByteArray<16> hash_key_{};
    mutable std::mutex mutex_;
    std::vector<std::uint32_t> per_source_;
    std::vector<Guests> per_prefix_;  // oldest first
    std::vector<Tokens> tokens_;
    std::vector<Instant> known_;  // when a prefix last authenticated
    std::size_t half_open_ = 0;
    std::optional<Instant> loaded_until_;
};

/// Counts the sessions of each peer, in all workers together.
class SessionLimits : public std::enable_shared_from_this<SessionLimits> {
  public:
    /// Held as long as the session lasts.
    class Slot {
      public:
        Slot(std::shared_ptr<SessionLimits> owner, const crypto::PublicKey& key);
        Slot(Slot&&) noexcept = default;
        Slot& operator=(Slot&&) = delete;
        ~Slot();

      private:
        std::shared_ptr<SessionLimits> owner_;
        crypto::PublicKey key_;
    };
    /// Nothing: the peer has `most` sessions already.
    [[nodiscard]] std::optional<Slot> take(const crypto::PublicKey& key, std::size_t most);

  private:
    std::mutex mutex_;
    std::unordered_map<crypto::PublicKey, std::size_t> counts_;
};

}  // namespace curvegate::net
