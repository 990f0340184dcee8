#include "support/curvecp.hpp"

#include <catch2/catch.hpp>

#include <map>

/// A client and a server of CurveCP over a simulated network under virtual time that loses, repeats, delays,
/// reorders and changes datagrams: whatever it does, no message counts twice, no cookie makes two sessions,
/// and where enough comes through both ends meet.
namespace curvegate::test::udp {
namespace {

using namespace std::chrono_literals;

/// Chances of a datagram in a hundred.
struct Weather {
    std::string name;
    std::size_t lost;
    std::size_t repeated;
    std::size_t changed;  ///< one bit
    Duration most_delay;
    Duration blackout{};  ///< nothing comes through for so long from the start
};

/// One direction.
class Network {
  public:
    Network(SeededRandom& random, const Weather& weather) : random_(&random), weather_(weather) {}

    void send(const Buffer& packet, Instant now) {
        if (now < kStart + weather_.blackout || random_->below(100) < weather_.lost) return;
        const std::size_t copies = random_->below(100) < weather_.repeated ? 3 : 1;
        for (std::size_t i = 0; i < copies; ++i) {
            auto copy = packet;
            if (random_->below(100) < weather_.changed) {
                Byte& byte = copy[random_->below(copy.size())];
                byte = static_cast<Byte>(byte ^ (1U << random_->below(8)));
            }
            const auto delay = Duration(static_cast<Duration::rep>(
                random_->below(static_cast<std::size_t>(weather_.most_delay.count()) + 1)));
            due_.emplace(now + delay, std::move(copy));
        }
    }
    std::optional<Buffer> next(Instant now) {
        if (due_.empty() || due_.begin()->first > now) return std::nullopt;
        return std::move(due_.extract(due_.begin()).mapped());
    }

  private:
    SeededRandom* random_;
    Weather weather_;
    std::multimap<Instant, Buffer> due_;
};

/// The server's socket: a machine for each packet that finds no session, sessions by C'.
class Servers {
  public:
    Servers(World& world, Network& down) : world_(&world), down_(&down) {}

    std::map<packets::ClientShort, Session> sessions;
    std::map<std::string, int> messages;  ///< how often each came

    void receive(Buffer packet, Instant now) {
        const auto parsed = packets::parse_to_server(packet);
        if (!parsed) return;
        const auto extensions = std::visit([](const auto& header) { return header.extensions; }, *parsed);
        if (extensions.server != kExtensions.server) return;
        if (std::holds_alternative<packets::SealedHello>(*parsed)) return newcomer(packet, now);
        if (const auto* initiate = std::get_if<packets::InitiateHeader>(&*parsed)) {
            const auto found = sessions.find(initiate->client_short);
            if (found == sessions.end()) return newcomer(packet, now);
            return deliver(found->second, found->second.open_initiate(initiate->number, packet), now);
        }
        const auto& header = std::get<packets::ClientMessageHeader>(*parsed);
        const auto found = sessions.find(header.client_short);
        if (found == sessions.end()) return;
        deliver(found->second, found->second.open_message(header.number, packet), now);
    }

  private:
    void newcomer(const Buffer& packet, Instant now) {
        auto server = server_end(*world_);
        (void)server.receive(packet, now);
        for (const auto& answer : server.sent) down_->send(answer, now);
        if (!server.session) return;
        CHECK(server.peer == world_->client_vault.key);
        ++messages[hex(server.message)];
        auto& session =
            sessions.emplace(server.session->client_short(), std::move(*server.session)).first->second;
        down_->send(sealed_message(session, server.message), now);
    }
    /// An answer for each message, as the stream's acknowledgments are.
    void deliver(Session& session, const Result<session::curvecp::Opened>& opened, Instant now) {
        if (!opened) return;
        ++messages[hex(opened->message)];
        down_->send(sealed_message(session, opened->message), now);
    }

    World* world_;
    Network* down_;
};

struct Outcome {
    bool connected;
    std::optional<Error> closed;
    std::size_t sessions;
    std::size_t answers;  ///< different messages that came back
    std::size_t sent;
};

class Run {
  public:
    Run(std::uint64_t seed, const Weather& weather)
        : world_(seed), random_(seed ^ 0xc0ffee), up_(random_, weather), down_(random_, weather) {}

    Outcome go() {
        client_.feed(event::Start{world_.fresh_keys(), kClientFirst}, now_);
        while (now_ < kStart + kLimit + 1s && !client_.closed) {
            now_ += 10ms;
            while (auto packet = up_.next(now_)) servers_.receive(std::move(*packet), now_);
            while (auto packet = down_.next(now_)) receive(std::move(*packet));
            if (const auto deadline = client_.next_deadline(); deadline && *deadline <= now_) tick();
            for (const auto& hello : std::exchange(client_.sent, {})) up_.send(hello, now_);
            if (client_.session && now_ >= speak_at_) speak();
        }
        for (const auto& [message, count] : servers_.messages) CHECK(count == 1);
        for (const auto& [message, count] : answers_) CHECK(count == 1);
        for (const auto& why : client_.dropped) {
            CHECK((why.is(handshake::Errc::cookie_does_not_open) || why.is(wire::Errc::wrong_extension) ||
                   why.is(handshake::Errc::unexpected_packet)));
        }
        return {client_.state() == fsm::ClientState::connected, client_.closed, servers_.sessions.size(),
                answers_.size(), said_};
    }

  private:
    void tick() {
        client_.feed(event::DeadlineReached{}, now_);
        if (std::exchange(client_.asked_afresh, 0) == 0) return;
        client_.session.reset();
        client_.feed(event::Start{world_.fresh_keys(), {random_.next() >> 16}}, now_);
    }
    void receive(Buffer packet) {
        const auto parsed = packets::parse_to_client(packet);
        if (!parsed) return;
        const auto* header = std::get_if<packets::ServerMessageHeader>(&*parsed);
        if (header == nullptr) {
            (void)client_.receive(packet, now_);
            return;
        }
        if (!client_.session || header->extensions != kExtensions) return;
        const auto opened = client_.session->open_message(header->number, packet);
        if (!opened) return;
        ++answers_[hex(opened->message)];
        if (client_.state() == fsm::ClientState::vouched) client_.feed(event::Confirmed{}, now_);
    }
    void speak() {
        speak_at_ = now_ + 100ms;
        Buffer message(48);
        store_le<std::uint64_t>(MutableBytes(message).first<8>(), ++said_);
        const bool confirmed = client_.state() == fsm::ClientState::connected;
        up_.send(confirmed ? sealed_message(*client_.session, message)
                           : sealed_initiate(*client_.session, *client_.introduction, message),
                 now_);
    }

    World world_;
    SeededRandom random_;
    Network up_;
    Network down_;
    Servers servers_{world_, down_};
    ClientEnd client_ = client_end(world_);
    Instant now_ = kStart;
    Instant speak_at_ = kStart;
    std::size_t said_ = 0;
    std::map<std::string, int> answers_;
};

TEST_CASE("over any network nothing counts twice, and over most both ends of CurveCP meet",
          "[fsm][curvecp]") {
    const std::vector<Weather> weathers = {
        {"fair", 0, 0, 0, 20ms},          {"loss", 30, 0, 0, 50ms},
        {"repeats", 0, 60, 0, 800ms},     {"changes", 0, 0, 40, 50ms},
        {"all of it", 20, 30, 20, 400ms}, {"a dark beginning", 10, 10, 10, 100ms, 3s},
    };
    for (const auto& weather : weathers) {
        for (std::uint64_t seed = 1; seed <= 15; ++seed) {
            INFO(weather.name << ", seed " << seed);
            const auto outcome = Run(seed, weather).go();
            CHECK(outcome.connected);
            CHECK_FALSE(outcome.closed.has_value());
            CHECK(outcome.sessions >= 1);
            CHECK(outcome.answers > outcome.sent / 6);
            if (weather.name == "fair") CHECK(outcome.sessions == 1);
        }
    }
}

TEST_CASE("where nothing comes through a client of CurveCP ends at its limit", "[fsm][curvecp]") {
    for (const auto& weather : {Weather{"silence", 100, 0, 0, 0ms}, Weather{"noise", 0, 0, 100, 50ms}}) {
        for (std::uint64_t seed = 1; seed <= 5; ++seed) {
            INFO(weather.name << ", seed " << seed);
            const auto outcome = Run(seed, weather).go();
            CHECK_FALSE(outcome.connected);
            REQUIRE(outcome.closed.has_value());
            CHECK(outcome.closed->is(handshake::Errc::connect_timeout));
            CHECK(outcome.answers == 0);
        }
    }
}

}  // namespace
}  // namespace curvegate::test::udp
