#include "support/ends.hpp"

#include <catch2/catch.hpp>

#include <cstdlib>
#include <functional>
#include <map>

/// Two ends over a simulated byte stream under virtual time: whatever the link and the vaults do, either both
/// ends reach connected and every message arrives exactly once and in order, or both end with a listed
/// reason.
namespace curvegate::test {
namespace {

using namespace std::chrono_literals;

/// What is done to one connection, and to which record (a whole frame of one direction).
enum class Harm {
    none,
    split,       ///< delivered in single bytes
    slow_vault,  ///< answers late, but in time
    dead_vault,  ///< answers never
    lost_vault,  ///< tells that it is gone
    stall,       ///< from some record on one direction delivers nothing until the end of the test
    cut,         ///< the connection ends within a record
    drop,
    repeat,
    swap,
    flip,        ///< one bit
    inject,      ///< bytes of nobody
    old_record,  ///< one of another connection's
};
constexpr std::size_t kHarms = 13;

/// One direction: frames in, bytes out after a delay that never reorders them.
struct Direction {
    std::multimap<Instant, Buffer> due;
    std::optional<Instant> end_due;
    Instant last{kStart};
    std::size_t records = 0;
    Buffer held;  // the first of two records to be swapped
    bool dead = false;
};

constexpr Duration kHorizon = 60s;  // by then a dead link is noticed (keepalive)

class Link {
  public:
    Link(std::uint64_t seed, Harm harm) : world_(seed), rng_(seed ^ 0x5eed), harm_(harm) {
        victim_up_ = rng_.one_in(2);
        victim_record_ = rng_.below(victim_up_ ? 6 : 4);
        old_ = recorded();
        client_.emplace(world_.client());
        server_.emplace(world_.server());
        const bool late = harm == Harm::slow_vault || harm == Harm::dead_vault || harm == Harm::lost_vault;
        if (late) (rng_.one_in(2) ? client_->vault_is_slow : server_->vault_is_slow) = true;
    }

    void run() {
        Instant now = kStart;
        client_->start(world_.fresh_keys(), now);
        while (true) {
            pump(now);
            if (is_settled()) break;
            const auto next = next_event();
            if (!next) break;
            now = std::max(now, *next);
            happen(now);
        }
    }

    [[nodiscard]] bool connected() const {
        return !client_->closed && !server_->closed && client_->session && server_->session;
    }
    [[nodiscard]] bool all_arrived() const {
        return server_->delivered == said_up_ && client_->delivered == said_down_ &&
               said_up_.size() == kTalk && said_down_.size() == kTalk;
    }
    [[nodiscard]] bool only_in_order() const {
        return is_prefix(server_->delivered, said_up_) && is_prefix(client_->delivered, said_down_);
    }
    [[nodiscard]] const ClientEnd& client() const { return *client_; }
    [[nodiscard]] const ServerEnd& server() const { return *server_; }
    [[nodiscard]] bool harmed() const { return harmed_; }

  private:
    static constexpr std::size_t kTalk = 5;

    static bool is_prefix(const std::vector<Buffer>& part, const std::vector<Buffer>& whole) {
        return part.size() <= whole.size() && std::equal(part.begin(), part.end(), whole.begin());
    }

    /// Frames of another connection between the same two.
    Buffer recorded() {
        auto client = world_.client();
        auto server = world_.server();
        client.start(world_.fresh_keys(), kStart);
        Buffer out = client.outgoing;
        carry(client, server);
        client.say(pattern(9));
        return victim_record_ == 0 ? out : client.outgoing;
    }

    [[nodiscard]] Duration delay() { return std::chrono::milliseconds(rng_.below(200)); }

    // Takes what both ends wrote and gives it to the link, says what is left to say, and passes closes on.
    void pump(Instant now) {
        talk_due_.reset();
        talk(*client_, said_up_, now);
        talk(*server_, said_down_, now);
        write(up_, std::exchange(client_->outgoing, {}), now, true);
        write(down_, std::exchange(server_->outgoing, {}), now, false);
        if (client_->closed && !up_.end_due) up_.end_due = std::max(up_.last, now + delay());
        if (server_->closed && !down_.end_due) down_.end_due = std::max(down_.last, now + delay());
    }

    template <class Endpoint>
    void talk(Endpoint& end, std::vector<Buffer>& said, Instant now) {
        while (!end.closed && end.session && said.size() < kTalk) {
            if (rng_.one_in(3)) {
                talk_due_ = now + delay();
                return;
            }
            const bool large = harm_ != Harm::split && rng_.one_in(20);
            said.push_back(pattern(large ? packets::kMaxMessageSize : rng_.below(300)));
            end.say(said.back());
        }
    }

    void write(Direction& way, const Buffer& bytes, Instant now, bool is_up) {
        for (std::size_t at = 0; at < bytes.size();) {
            const auto size = 2 + packets::parse_frame_header(Bytes(bytes).subspan(at).first<2>());
            Buffer frame(bytes.begin() + static_cast<std::ptrdiff_t>(at),
                         bytes.begin() + static_cast<std::ptrdiff_t>(at + size));
            at += size;
            const bool victim = is_up == victim_up_ && way.records == victim_record_;
            ++way.records;
            send(way, victim ? harm(way, std::move(frame), now) : std::move(frame), now);
        }
    }

    void send(Direction& way, Buffer frame, Instant now) {
        if (way.dead || frame.empty()) return;
        if (!way.held.empty()) {
            frame.insert(frame.end(), way.held.begin(), way.held.end());
            way.held.clear();
        }
        way.last = std::max(way.last, now + delay());
        if (harm_ != Harm::split && !rng_.one_in(3)) {
            way.due.emplace(way.last, std::move(frame));
            return;
        }
        const std::size_t most = harm_ == Harm::split ? 1 : 1 + rng_.below(frame.size());
        for (std::size_t at = 0; at < frame.size(); at += most) {
            const auto part = Bytes(frame).subspan(at, std::min(most, frame.size() - at));
            if (rng_.one_in(40)) way.last += std::chrono::milliseconds(rng_.below(3));
            way.due.emplace(way.last, copy_of(part));
        }
    }

    Buffer harm(Direction& way, Buffer frame, Instant now) {
        const auto follow = [&](const Buffer& more) { frame.insert(frame.end(), more.begin(), more.end()); };
        const bool before = std::exchange(harmed_, true);
        switch (harm_) {
            case Harm::stall: way.dead = true; return {};
            case Harm::cut:
                frame.resize(rng_.below(frame.size()));
                send(way, frame, now);
                way.dead = true;
                up_.end_due = std::max(up_.last, now);
                down_.end_due = std::max(down_.last, now);
                return {};
            case Harm::drop: return {};
            case Harm::repeat: follow(Buffer(frame)); return frame;
            case Harm::swap: way.held = std::move(frame); return {};
            case Harm::flip: {
                const std::size_t bit = rng_.below(frame.size() * 8);
                frame[bit / 8] = static_cast<Byte>(frame[bit / 8] ^ (1U << bit % 8));
                return frame;
            }
            case Harm::inject: {
                Buffer nonsense(1 + rng_.below(300));
                rng_.fill(nonsense);
                nonsense.insert(nonsense.end(), frame.begin(), frame.end());
                return nonsense;
            }
            case Harm::old_record: return old_;
            default: harmed_ = before; return frame;
        }
    }

    [[nodiscard]] bool is_settled() const {
        if (client_->closed && server_->closed) return true;
        return connected() && all_arrived() && up_.due.empty() && down_.due.empty();
    }

    [[nodiscard]] std::optional<Instant> next_event() const {
        std::optional<Instant> out;
        const auto consider = [&](const Deadline& at) {
            if (at && (!out || *at < *out)) out = at;
        };
        for (const auto* way : {&up_, &down_}) {
            if (!way->due.empty()) consider(way->due.begin()->first);
            if (way->due.empty()) consider(way->end_due);
        }
        consider(client_->next_deadline());
        consider(server_->next_deadline());
        consider(answer_due_);
        consider(talk_due_);
        if (!horizon_reached_) consider(kStart + kHorizon);
        return out;
    }

    void happen(Instant now) {
        arrive(up_, *server_, now);
        arrive(down_, *client_, now);
        look_at_vault(*client_, now);
        look_at_vault(*server_, now);
        client_->look_at_clock(now);
        server_->look_at_clock(now);
        if (now >= kStart + kHorizon && !horizon_reached_) {
            horizon_reached_ = true;
            client_->receive_end(now);
            server_->receive_end(now);
        }
    }

    template <class Endpoint>
    void arrive(Direction& way, Endpoint& end, Instant now) {
        while (!way.due.empty() && way.due.begin()->first <= now) {
            const Buffer bytes = std::move(way.due.begin()->second);
            way.due.erase(way.due.begin());
            end.receive(bytes, now);
        }
        if (way.due.empty() && way.end_due && *way.end_due <= now) {
            way.end_due = Instant::max();
            end.receive_end(now);
        }
    }

    template <class Endpoint>
    void look_at_vault(Endpoint& end, Instant now) {
        if (!end.asked || harm_ == Harm::dead_vault) return;
        if (!answer_due_) {
            answer_due_ = now + delay() * 10;
        } else if (*answer_due_ <= now) {
            answer_due_.reset();
            harmed_ = true;
            if (harm_ == Harm::lost_vault) {
                end.feed(event::VaultLost{}, now);
            } else {
                end.answer_vault(now);
            }
        }
    }

    World world_;
    SeededRandom rng_;
    Harm harm_;
    bool victim_up_ = false;
    std::size_t victim_record_ = 0;
    Buffer old_;
    std::optional<ClientEnd> client_;
    std::optional<ServerEnd> server_;
    Direction up_;
    Direction down_;
    std::vector<Buffer> said_up_;
    std::vector<Buffer> said_down_;
    Deadline answer_due_;
    Deadline talk_due_;
    bool harmed_ = false;
    bool horizon_reached_ = false;
};

/// Whether the harm, if it was done at all, must end the connection.
bool is_deadly(Harm harm) {
    return harm != Harm::none && harm != Harm::split && harm != Harm::slow_vault && harm != Harm::dead_vault;
}

bool is_listed(const Error& why) {
    return !why.is(handshake::Errc::bug) && !why.is(handshake::Errc::stopped) && why.what() != "unknown";
}

void check(std::uint64_t seed) {
    const auto harm = static_cast<Harm>(seed % kHarms);
    INFO("CURVEGATE_SEED=" << seed << " harm " << static_cast<int>(harm));
    Link link(seed, harm);
    link.run();
    REQUIRE(link.only_in_order());
    if (link.connected()) {
        REQUIRE(link.all_arrived());
        // A swap of the last record of a direction, or an identical old record, is the only harm without
        // effect.
        if (is_deadly(harm)) REQUIRE_FALSE(link.harmed());
        return;
    }
    REQUIRE(harm != Harm::none);
    REQUIRE(harm != Harm::split);
    REQUIRE(harm != Harm::slow_vault);
    REQUIRE(link.client().closed.has_value());
    REQUIRE(link.server().closed.has_value());
    INFO("client: " << link.client().closed->text() << "; server: " << link.server().closed->text());
    REQUIRE(is_listed(*link.client().closed));
    REQUIRE(is_listed(*link.server().closed));
}

TEST_CASE("over any link both ends deliver everything in order, or both end", "[fsm][link]") {
    if (const char* seed = std::getenv("CURVEGATE_SEED")) {  // NOLINT(concurrency-mt-unsafe)
        check(std::strtoull(seed, nullptr, 10));
        return;
    }
    for (std::uint64_t seed = 0; seed < 100 * kHarms; ++seed) check(seed);
}

}  // namespace
}  // namespace curvegate::test
