#pragma once

#include "base/ip.hpp"
#include "base/random.hpp"
#include "base/result.hpp"
#include "base/time.hpp"
#include "crypto/keys.hpp"
#include "guard/service_id.hpp"
#include "service/service.hpp"

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace curvegate::guard {

using AdmissionLimits = service::Admission;

/// Which budget of strangers is used up, by this one or by its neighbours. Response: the connection is closed
/// (tcp), or the Initiate is dropped silently (udp); handshake_reject or packet_drop says why.
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
/// mutex, taken twice for each connection and never for a byte of data. Tables are of fixed size under a
/// keyed hash; addresses that fall together share a budget.
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

    struct Knock {
        IpAddress source;
        Instant now;
        bool vault_busy;  ///< this alone makes load
    };
    /// `evict` ends that handshake if the table is full and a newcomer of a less crowded network needs its
    /// place; it is called at most once, from any thread, and must not call back.
    /// Errors: source_full, total_full, over_rate.
    [[nodiscard]] Result<Ticket> admit(const Knock& knock, std::function<void()> evict);
    [[nodiscard]] std::size_t half_open() const;
    [[nodiscard]] const AdmissionLimits& limits() const noexcept { return limits_; }

  private:
    struct Tokens {
        double left;
        Instant filled;
    };

    [[nodiscard]] std::size_t cell(const IpAddress& address, unsigned bits, std::size_t size) const;
    [[nodiscard]] bool under_load(const Knock& knock);
    [[nodiscard]] bool take_tokens(const IpAddress& source, Instant now);
    void give_tokens(const IpAddress& source);
    [[nodiscard]] bool make_room(std::size_t prefix_cell, std::size_t limit);
    void leave(Guests::iterator guest);

    const AdmissionLimits limits_;
    ByteArray<16> hash_key_{};
    mutable std::mutex mutex_;
    std::vector<std::uint32_t> per_source_;
    std::vector<Guests> per_prefix_;  // oldest first
    std::vector<Tokens> tokens_;
    std::vector<Instant> known_;  // when a prefix last authenticated
    std::size_t half_open_ = 0;
    std::optional<Instant> loaded_until_;
};

/// How many sessions may be at once.
struct SessionMost {
    std::size_t of_peer =
        service::Limits{}.sessions_per_peer;  ///< server ends: of one key, over all services
    std::size_t of_source =
        service::Limits{}
            .sessions_per_source;  ///< server ends: of one IPv4 address or IPv6 /64, over all services
    std::size_t of_service =
        service::Limits{}.sessions_per_service;  ///< of one service, server or client end
    std::size_t in_all = service::kMostSessions;
};

/// Which of them is reached; nobody's fault. Response: a server end gives the one refusal that all get, a
/// client end resets the local connection; sessions that run go on.
enum class SessionErrc {
    of_peer = 1,  ///< sessions-per-peer
    of_source,    ///< sessions-per-source
    of_service,   ///< sessions-per-service
    in_all,       ///< sessions
};
[[nodiscard]] constexpr std::string_view layer_name(SessionErrc) {
    return "sessions";
}
[[nodiscard]] constexpr std::string_view describe(SessionErrc code) {
    switch (code) {
        case SessionErrc::of_peer: return "too many sessions of this peer (sessions-per-peer)";
        case SessionErrc::of_source: return "too many sessions of this address (sessions-per-source)";
        case SessionErrc::of_service: return "too many sessions of this service (sessions-per-service)";
        case SessionErrc::in_all: return "too many sessions in all (sessions)";
    }
    return "unknown";
}

/// Counts sessions by peer, source and service and in all, over all workers: one mutex, taken twice a
/// session. What comes and goes are keys that have proven themselves and their addresses: strangers make
/// nothing grow.
class SessionLimits : public std::enable_shared_from_this<SessionLimits> {
    // A stranger who may come in with any key could choose keys that meet in a hash table.
    using Peers = std::map<crypto::PublicKey, std::size_t>;
    using Sources = std::map<IpAddress, std::size_t>;
    using Services = std::map<ServiceId, std::size_t>;

  public:
    /// The client of a server end.
    struct Client {
        crypto::PublicKey key;
        IpAddress source;
    };

    /// Held as long as the session lasts. It stays with the address that it was taken for, wherever the
    /// client goes.
    class Slot {
      public:
        Slot(Slot&&) noexcept = default;
        Slot& operator=(Slot&&) = delete;
        ~Slot();

      private:
        friend class SessionLimits;
        explicit Slot(std::shared_ptr<SessionLimits> owner) : owner_(std::move(owner)) {}
        std::shared_ptr<SessionLimits> owner_;   // empty: moved from
        Peers::value_type* peer_ = nullptr;      // null: of a client end
        Sources::value_type* source_ = nullptr;  // the same
        Services::value_type* service_ = nullptr;
    };
    /// `client`: nothing for a local connection of a client end, which counts for its service and in all.
    /// Errors: the limit that is reached, in the order of SessionErrc; then nothing has been counted.
    [[nodiscard]] Result<Slot> take(ServiceId service, const std::optional<Client>& client,
                                    const SessionMost& most);
    /// Sessions now, over all services.
    [[nodiscard]] std::size_t in_all() const;

  private:
    mutable std::mutex mutex_;
    // Slots point into these, and none of them moves its elements.
    Peers peers_;
    Sources sources_;
    Services services_;
    std::size_t in_all_ = 0;
};

}  // namespace curvegate::guard
