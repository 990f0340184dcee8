#include "support/liar.hpp"

#include <catch2/catch.hpp>

#include <cstdlib>
#include <functional>
#include <map>
#include <set>

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

// ---- replays ----

/// Everything that one client sent, as somebody on the way would have recorded it.
struct Recorded {
    Buffer hello;
    Buffer vouch_and_messages;
};

Recorded record_session(World& world) {
    auto client = world.client();
    auto server = world.server();
    Recorded out;
    client.start(world.fresh_keys(), kStart);
    out.hello = client.outgoing;
    server.receive(std::exchange(client.outgoing, {}), kStart);
    client.receive(std::exchange(server.outgoing, {}), kStart);
    REQUIRE(client.session.has_value());
    client.say(as_bytes("PAY 100"));
    out.vouch_and_messages = client.outgoing;
    server.receive(client.outgoing, kStart);
    REQUIRE(server.delivered.size() == 1);
    return out;
}

TEST_CASE("a whole session sent again on a second connection is refused at its vouch", "[fsm][link]") {
    World world;
    const auto recorded = record_session(world);
    for (const auto later : {0s, 1s, 4s}) {
        auto server = world.server(kStart + later);
        server.receive(recorded.hello, kStart + later);
        CHECK(server.state() == fsm::ServerState::accepting);  // a Hello tells nothing
        server.receive(recorded.vouch_and_messages, kStart + later);
        REQUIRE(server.closed.has_value());
        CHECK(server.closed->is(handshake::Errc::cookie_not_ours));
        CHECK_FALSE(server.session.has_value());
        CHECK(server.delivered.empty());
    }
}

TEST_CASE("a session sent again after the daemon restarted is refused", "[fsm][link]") {
    World world;
    const auto recorded = record_session(world);
    World restarted(2);  // the same keys, fresh minute keys
    auto server = restarted.server();
    server.receive(recorded.hello, kStart);
    server.receive(recorded.vouch_and_messages, kStart);
    REQUIRE(server.closed.has_value());
    CHECK(server.closed->is(handshake::Errc::cookie_not_ours));
}

struct HalfOpen {
    ClientEnd client;
    ServerEnd server;
};

/// Up to where the client has written its vouch and the server has not seen it.
HalfOpen half_open(World& world, TestVault& identity) {
    HalfOpen out{world.client(identity), world.server()};
    out.client.start(world.fresh_keys(), kStart);
    out.server.receive(std::exchange(out.client.outgoing, {}), kStart);
    out.client.receive(std::exchange(out.server.outgoing, {}), kStart);
    REQUIRE(out.client.session.has_value());
    return out;
}

TEST_CASE("a vouch with another connection's cookie is refused, and that connection completes",
          "[fsm][link]") {
    World world;
    TestVault other_client(vault::KeyRole::client, secret_bytes(3));
    auto* identity = GENERATE(as<int>{}, 0, 1) == 0 ? &world.client_vault : &other_client;
    auto first = half_open(world, world.client_vault);
    auto second = half_open(world, *identity);
    second.server.receive(first.client.outgoing, kStart);  // the first one's vouch, on the second connection
    REQUIRE(second.server.closed.has_value());
    CHECK(second.server.closed->is(handshake::Errc::cookie_not_ours));
    carry(first.client, first.server);
    REQUIRE(first.server.session.has_value());
    CHECK(*first.server.peer == world.client_vault.key);
}

TEST_CASE("a cookie cannot be used a second time", "[fsm][link]") {
    World world;
    auto used = half_open(world, world.client_vault);
    const auto vouch = used.client.outgoing;
    carry(used.client, used.server);
    REQUIRE(used.server.session.has_value());
    SECTION("on another connection") {
        auto again = half_open(world, world.client_vault);
        again.server.receive(vouch, kStart);
        REQUIRE(again.server.closed.has_value());
        CHECK(again.server.closed->is(handshake::Errc::cookie_not_ours));
    }
    SECTION("on the same connection") {
        used.server.receive(vouch, kStart);
        REQUIRE(used.server.closed.has_value());
        CHECK(used.server.closed->is(wire::Errc::wrong_magic));
    }
}

TEST_CASE("a thousand identical hellos give a thousand short-term keys and cookies", "[fsm][link]") {
    World world;
    auto client = world.client();
    client.start(world.fresh_keys(), kStart);
    const auto idle = pool().in_use();
    std::set<crypto::PublicKey> keys;
    std::set<Buffer> answers;
    std::set<Buffer> nonces;
    for (int i = 0; i < 1'000; ++i) {
        auto server = world.server();
        server.receive(client.outgoing, kStart);
        REQUIRE(server.outgoing.size() == 2 + packets::kCookiePacketSize);
        keys.insert(server.server_shorts.at(0));
        nonces.insert(Buffer(server.outgoing.begin() + 10, server.outgoing.begin() + 26));
        answers.insert(server.outgoing);
    }
    CHECK(keys.size() == 1'000);
    CHECK(nonces.size() == 1'000);
    CHECK(answers.size() == 1'000);
    CHECK(pool().in_use() == idle);
}

// ---- a client that may be let in, and lies ----

TEST_CASE("a vouch made by hand as it should be is let in", "[fsm][link]") {
    World world;
    Liar client(world);
    CHECK_FALSE(client.vouch(client.vouched_by(world.client_vault, client.keys.public_key)).has_value());
    CHECK(client.server.session.has_value());
}

TEST_CASE("a vouch for another short-term key is refused", "[fsm][link]") {
    World world;
    Liar client(world);
    const auto why = client.vouch(client.vouched_by(world.client_vault, world.fresh_keys().public_key));
    REQUIRE(why.has_value());
    CHECK(why->is(handshake::Errc::vouch_refused));
}

TEST_CASE("a vouch that another key made is refused under the first one's name", "[fsm][link]") {
    World world;
    TestVault other(vault::KeyRole::client, secret_bytes(3));
    Liar client(world);
    auto body = client.vouched_by(other, client.keys.public_key);
    body.client = world.client_vault.key;
    const auto why = client.vouch(body);
    REQUIRE(why.has_value());
    CHECK(why->is(handshake::Errc::vouch_refused));
}

TEST_CASE("the vouch of an older session is refused in a correct outer box", "[fsm][link]") {
    World world;
    Liar older(world);
    const auto old = older.vouched_by(world.client_vault, older.keys.public_key);
    REQUIRE_FALSE(older.vouch(old).has_value());
    Liar now(world);
    const auto why = now.vouch(old);
    REQUIRE(why.has_value());
    CHECK(why->is(handshake::Errc::vouch_refused));
}

TEST_CASE("a vouch for another server is refused", "[fsm][link]") {
    World world;
    Liar client(world);
    auto body = client.vouched_by(world.client_vault, client.keys.public_key);
    TestVault other_server(vault::KeyRole::server, secret_bytes(9));
    const auto made = std::get<vault::Vouch>(world.client_vault.ask(
        vault::MakeVouch{to_array(other_server.key.bytes()), to_array(client.keys.public_key.bytes())}));
    body.nonce = made.nonce;
    body.vouch = {made.vouch};
    const auto why = client.vouch(body);
    REQUIRE(why.has_value());
    CHECK(why->is(handshake::Errc::vouch_refused));
}

// The libcurvecpr bug: the tag of the inner box was never verified.
TEST_CASE("a vouch with any bit changed inside a correct outer box is refused", "[fsm][link]") {
    World world;
    ByteArray<packets::kVouchBodySize> plain{};
    const std::size_t step = 3;  // each is a whole handshake
    for (std::size_t bit = 0; bit < plain.size() * 8; bit += step) {
        Liar client(world);
        serialise(client.vouched_by(world.client_vault, client.keys.public_key), plain);
        plain[bit / 8] = static_cast<Byte>(plain[bit / 8] ^ (1U << bit % 8));
        INFO("bit " << bit);
        const auto why = client.vouch_bytes(plain);
        REQUIRE(why.has_value());
        const bool expected = why->is(handshake::Errc::vouch_refused) || why->is(crypto::Errc::weak_key);
        REQUIRE(expected);
        REQUIRE_FALSE(client.server.session.has_value());
    }
}

// SECURITY.md: what version 1 cannot prevent. If this fails the document is wrong.
TEST_CASE("who holds the server's secret can pose as any client to that server", "[fsm][link]") {
    World world;
    Liar thief(world);
    const auto server_secret = secret_of<crypto::LongTermSecret>(secret_bytes(1));
    const auto with_client = *agree(server_secret, world.client_vault.key);
    packets::VouchBody body{world.client_vault.key, nonce_number(77), {}};
    crypto::seal(with_client, crypto::Nonce::make(crypto::LongPurpose::vouch, body.nonce),
                 thief.keys.public_key.bytes(), body.vouch.bytes);
    CHECK_FALSE(thief.vouch(body).has_value());
    CHECK(*thief.server.peer == world.client_vault.key);
}

// ---- time and order ----

TEST_CASE("messages that come in the vouch's segment are delivered", "[fsm][link]") {
    World world;
    auto ends = half_open(world, world.client_vault);
    ends.client.say(pattern(10));
    ends.client.say({});
    ends.server.vault_is_slow = true;
    ends.server.receive(std::exchange(ends.client.outgoing, {}), kStart);
    CHECK(ends.server.delivered.empty());
    CHECK(ends.server.incoming.size() == 2 * session::curve_tun::kFrameOverhead + 10);
    ends.server.answer_vault(kStart + 1s);
    CHECK(ends.server.delivered == std::vector<Buffer>{pattern(10), {}});
}

TEST_CASE("an answer of the vault that comes after the end is ignored", "[fsm][link]") {
    World world;
    auto client = world.client();
    client.start(world.fresh_keys(), kStart);
    auto server = world.server();
    server.vault_is_slow = true;
    server.receive(client.outgoing, kStart);
    REQUIRE(server.asked.has_value());
    const auto late = world.server_vault.ask(*server.asked);
    server.look_at_clock(kStart + 5s);
    REQUIRE(server.closed.has_value());
    CHECK(server.closed->is(handshake::Errc::vault_timeout));
    // What the machine itself does with it, without the end around it that would not even pass it on.
    fsm::Server machine(vault::KeySlot::server, world.timeouts, kStart);
    (void)machine.handle(event::Stop{}, kStart);
    for (int i = 0; i < 2; ++i) {
        const auto actions = machine.handle(event_of(late), kStart);
        CHECK(std::holds_alternative<std::monostate>(actions[0]));
    }
    CHECK(server.outgoing.empty());
}

TEST_CASE("who says nothing, or half a packet, is closed at the deadline", "[fsm][link]") {
    World world;
    auto client = world.client();
    client.start(world.fresh_keys(), kStart);
    const Buffer hello = client.outgoing;
    for (const std::size_t part : {std::size_t{0}, std::size_t{1}, std::size_t{2}, std::size_t{129}}) {
        auto server = world.server();
        server.receive(Bytes(hello).first(part), kStart);
        server.look_at_clock(kStart + 5s - 1ns);
        CHECK_FALSE(server.closed.has_value());
        server.look_at_clock(kStart + 5s);
        REQUIRE(server.closed.has_value());
        CHECK(server.closed->is(handshake::Errc::hello_timeout));
    }
    auto ends = half_open(world, world.client_vault);
    ends.server.receive(Bytes(ends.client.outgoing).first(100), kStart + 4s);
    ends.server.look_at_clock(kStart + 5s);
    REQUIRE(ends.server.closed.has_value());
    CHECK(ends.server.closed->is(handshake::Errc::vouch_timeout));
}

TEST_CASE("one byte a second does not hold a connection open", "[fsm][link]") {
    World world;
    auto client = world.client();
    client.start(world.fresh_keys(), kStart);
    auto server = world.server();
    for (std::size_t second = 0; second < 100 && !server.closed; ++second) {
        server.receive(Bytes(client.outgoing).subspan(second, 1), kStart + std::chrono::seconds(second));
        server.look_at_clock(kStart + std::chrono::seconds(second));
        REQUIRE(second <= 5);
    }
    CHECK(server.closed.has_value());
}

TEST_CASE("a length that is not the one allowed is refused before its bytes come", "[fsm][link]") {
    World world;
    for (const std::size_t size : {0U, 1U, 7U, 8U, 31U, 32U, 127U, 129U, 168U, 224U, 65'535U}) {
        auto server = world.server();
        server.receive(to_be(static_cast<std::uint16_t>(size)), kStart);
        INFO(size);
        REQUIRE(server.closed.has_value());
        CHECK(server.closed->is(wire::Errc::wrong_length));
    }
}

TEST_CASE("a vouch that comes after its minute key is gone is refused", "[fsm][link]") {
    World world;
    world.timeouts.vouch = 10min;
    auto ends = half_open(world, world.client_vault);
    const Instant later = kStart + 121s;
    ends.server.receive(ends.client.outgoing, later);
    REQUIRE(ends.server.closed.has_value());
    CHECK(ends.server.closed->is(cookie::Errc::does_not_open));
}

TEST_CASE("a client that the registry does not know is refused after its vouch was checked", "[fsm][link]") {
    World world;
    auto ends = half_open(world, world.client_vault);
    bool asked = false;
    ends.server.authorise = [&](const crypto::PublicKey& key) -> std::optional<std::string> {
        asked = true;
        CHECK(key == world.client_vault.key);
        return "unknown key";
    };
    ends.server.receive(ends.client.outgoing, kStart);
    REQUIRE(ends.server.closed.has_value());
    CHECK(ends.server.closed->is(handshake::Errc::not_authorised));
    CHECK(ends.server.closed->detail() == "unknown key");
    CHECK(asked);
    // The bytes of a refusal: none, whatever the reason was.
    CHECK(ends.server.outgoing.empty());
}

TEST_CASE("a client that pins another server's key gets no further than its hello", "[fsm][link]") {
    World world;
    TestVault other(vault::KeyRole::server, secret_bytes(9));
    ClientEnd client(fsm::Client(other.key, world.timeouts, kStart + 10s), world.client_vault, world.random);
    auto server = world.server();
    client.start(world.fresh_keys(), kStart);
    carry(client, server);
    REQUIRE(server.closed.has_value());
    CHECK(server.closed->is(handshake::Errc::hello_refused));
    CHECK(server.outgoing.empty());
    client.receive_end(kStart);
    REQUIRE(client.closed.has_value());
    CHECK(client.closed->is(handshake::Errc::peer_closed));
}

TEST_CASE("packets in the wrong place end the connection", "[fsm][link]") {
    World world;
    auto ends = half_open(world, world.client_vault);
    const Buffer vouch = ends.client.outgoing;
    auto fresh = world.client();
    fresh.start(world.fresh_keys(), kStart);
    const Buffer hello = fresh.outgoing;
    SECTION("a vouch before the hello") {
        auto server = world.server();
        server.receive(vouch, kStart);
        CHECK(server.closed.has_value());
    }
    SECTION("a message before the vouch") {
        auto session_first = half_open(world, world.client_vault);
        session_first.client.outgoing.clear();
        session_first.client.say({});
        session_first.server.receive(session_first.client.outgoing, kStart);
        CHECK(session_first.server.closed.has_value());
    }
    SECTION("a second hello where the vouch is due") {
        ends.server.receive(hello, kStart);
        CHECK(ends.server.closed.has_value());
    }
    SECTION("a hello, a cookie or an empty frame when connected") {
        for (const auto& bad : {hello, Buffer{0, 0}, framed(Buffer(packets::kCookiePacketSize, 1))}) {
            auto connected = half_open(world, world.client_vault);
            carry(connected.client, connected.server);
            REQUIRE(connected.server.session.has_value());
            connected.server.receive(bad, kStart);
            CHECK(connected.server.closed.has_value());
        }
    }
    SECTION("a cookie packet sent to a server") {
        auto server = world.server();
        auto other = world.server();
        other.receive(hello, kStart);
        server.receive(other.outgoing, kStart);
        CHECK(server.closed.has_value());
    }
}

}  // namespace
}  // namespace curvegate::test
