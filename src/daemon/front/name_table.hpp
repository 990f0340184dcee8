#pragma once

#include "base/time.hpp"
#include "daemon/channel.hpp"

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace curvegate::daemon::front {

/// What is known of the names of the configuration, and who waits for one. A name that resolved once keeps
/// working: while its look-up is silent or fails, its last addresses are handed out. No I/O; time comes in.
///
/// Bounds: kAtOnce look-ups are under way, kMostQueued names wait for one, kMostWaiting callers wait in all,
/// and nobody waits longer than kLongestWait.
class NameTable {
  public:
    static constexpr Duration kFresh = std::chrono::seconds(5);     ///< an answer is not asked for anew
    static constexpr Duration kPatience = std::chrono::seconds(1);  ///< then the last addresses must do
    /// An answer that has not come by then never will: a look-up ends by itself within kLookupSeconds.
    static constexpr Duration kLost = std::chrono::seconds(15);
    static constexpr Duration kLongestWait = std::chrono::seconds(30);
    static constexpr std::size_t kAtOnce = kMostLookups;
    static constexpr std::size_t kMostQueued = 1'024;
    static constexpr std::size_t kMostWaiting = 16'384;

    /// With addresses, or with another outcome and none. May not call back.
    using Handler = std::move_only_function<void(const NameAnswer& answer)>;
    struct Ask {
        std::uint32_t id;
        std::string host;
    };
    /// A look-up that brought no addresses.
    struct Failure {
        std::string host;
        NameOutcome why;
        bool stale;  ///< its last addresses are handed out in the meantime
    };

    /// Calls `handler` once: now or later.
    void resolve(const std::string& host, Instant now, Handler handler);
    /// What to look up now; ask until there is nothing. answered() or advance() ends each.
    [[nodiscard]] std::optional<Ask> next_ask(Instant now);
    /// The answer to an Ask. One that nobody waits for any more is ignored.
    std::optional<Failure> answered(std::uint32_t id, NameAnswer answer, Instant now);
    /// Ends waits that are over, and look-ups whose answer is lost; gives those.
    std::vector<Failure> advance(Instant now);
    [[nodiscard]] Deadline next_deadline() const;
    /// Forgets all other names that nobody waits for; a reload calls it.
    void keep(const std::set<std::string>& hosts);

    [[nodiscard]] std::size_t waiting() const noexcept { return waiting_; }
    [[nodiscard]] std::size_t known() const noexcept { return names_.size(); }

  private:
    struct Waiter {
        Instant until;
        Handler handler;
    };
    struct Name {
        std::vector<ScopedIp> addresses;  // the last ones
        std::optional<Instant> checked;   // when the last look-up ended
        bool silent = false;              // it ended without an answer
        std::optional<Instant> wanted;    // since when a look-up is queued or under way
        std::deque<Waiter> waiting;       // the first one's time is over first
    };
    struct UnderWay {
        std::string host;
        Instant lost_at;
    };

    [[nodiscard]] bool want(const std::string& host, Name& name, Instant now);
    static NameAnswer stale_or(const Name& name, NameOutcome otherwise);
    void release(Name& name, Instant now, NameOutcome otherwise);
    [[nodiscard]] Failure lost(const UnderWay& look_up, NameOutcome why, Instant now);

    std::map<std::string, Name> names_;
    std::deque<std::string> queue_;
    std::map<std::uint32_t, UnderWay> under_way_;
    std::size_t waiting_ = 0;
    std::uint32_t next_id_ = 1;
};

}  // namespace curvegate::daemon::front
