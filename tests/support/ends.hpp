#pragma once

#include "handshake/curve_tun/client.hpp"
#include "handshake/curve_tun/server.hpp"
#include "support/vault.hpp"

#include <functional>

/// One end of a connection without a network: a machine and, after it, a session, driven by hand. What
/// tunnel::curve_tun does with sockets and timers, this does with buffers and a passed-in time.
namespace curvegate::test {

namespace fsm = handshake::curve_tun;
namespace event = fsm::event;
namespace action = fsm::action;
namespace packets = wire::curve_tun;
using fsm::Actions;
using fsm::Event;
using handshake::EventKind;
using session::curve_tun::Session;

inline Buffer framed(Bytes packet) {
    Buffer out(packets::kFrameHeaderSize + packet.size());
    Writer writer(out);
    packets::serialise_frame_header(packet.size(), writer.claim<packets::kFrameHeaderSize>());
    writer.put(packet);
    return out;
}

/// The event that a vault's answer is.
inline Event event_of(const vault::ReplyBody& reply) {
    struct {
        Event operator()(const vault::HelloAnswer& answer) const { return event::HelloAnswered{answer}; }
        Event operator()(const vault::Vouch& vouch) const { return event::VouchMade{vouch}; }
        Event operator()(const vault::VouchIsGood&) const { return event::VouchIsGood{}; }
        Event operator()(const vault::Refused& refused) const { return event::VaultRefused{refused.status}; }
        Event operator()(const vault::PublicKeyIs&) const { return event::VaultLost{"another question"}; }
        Event operator()(const vault::OtherSlot& other) const { return event::OtherSlot{other.slot}; }
        Event operator()(const vault::KeyDropped&) const { return event::VaultLost{"another question"}; }
    } visitor;
    return std::visit(visitor, reply);
}

template <class Machine>
class End {
  public:
    static constexpr bool kIsClient = std::is_same_v<Machine, fsm::Client>;

    End(Machine machine, TestVault& vault, RandomSource& random)
        : machine_(std::move(machine)), vault_(&vault), random_(&random) {}

    // Servers only.
    cookie::Keeper* keeper = nullptr;
    cookie::Binding binding{cookie::Wire::curve_tun, 0, IpAddress::from_v4(ByteArray<4>{127, 0, 0, 1})};
    std::function<std::optional<std::string>(const crypto::PublicKey&)> authorise =
        [](const crypto::PublicKey&) { return std::nullopt; };

    bool vault_is_slow = false;  ///< leave questions in `asked` until answer_vault()
    Buffer outgoing;             ///< written to the socket
    Buffer incoming;             ///< arrived and not read yet
    std::optional<vault::RequestBody> asked;
    std::optional<Session> session;
    std::optional<crypto::PublicKey> peer;
    vault::KeySlot slot{};  ///< server
    std::optional<Error> closed;
    std::vector<Buffer> delivered;
    std::vector<crypto::PublicKey> server_shorts;  ///< of every cookie asked for

    [[nodiscard]] auto state() const noexcept { return machine_.state(); }
    [[nodiscard]] Deadline next_deadline() const noexcept {
        return closed || session ? std::nullopt : machine_.next_deadline();
    }
    [[nodiscard]] bool is_over() const noexcept { return closed.has_value(); }

    void start(crypto::EphemeralKeyPair keys, Instant now) { feed(event::Start{std::move(keys)}, now); }

    void feed(Event&& first, Instant now) {
        std::optional<Event> next(std::move(first));
        while (next && !closed && !session) {
            auto actions = machine_.handle(std::move(*next), now);
            next.reset();
            for (auto& step : actions) {
                auto answer = std::visit([&](auto& act) { return run(act, now); }, step);
                if (answer) next = std::move(answer);
            }
        }
    }

    void receive(Bytes bytes, Instant now) {
        incoming.insert(incoming.end(), bytes.begin(), bytes.end());
        read(now);
    }
    void receive_end(Instant now) {
        ended_ = true;
        read(now);
    }
    void answer_vault(Instant now) {
        if (!asked) return;
        const auto request = *std::exchange(asked, std::nullopt);
        feed(event_of(vault_->ask(request)), now);
        read(now);
    }
    void look_at_clock(Instant now) {
        if (const auto deadline = next_deadline(); deadline && *deadline <= now)
            feed(event::DeadlineReached{}, now);
    }
    /// After the handshake: seals a message and writes it.
    void say(Bytes message) {
        Buffer frame(session::curve_tun::kFrameOverhead + message.size());
        std::ranges::copy(message, frame.begin() + session::curve_tun::kFrameOverhead);
        if (auto sealed = session->seal_frame(frame); !sealed) {
            closed = sealed.error();
            return;
        }
        outgoing.insert(outgoing.end(), frame.begin(), frame.end());
    }

  private:
    std::optional<Event> run(std::monostate&, Instant) { return std::nullopt; }
    std::optional<Event> run(action::Send& send, Instant) {
        const Buffer frame = framed(send.packet());
        outgoing.insert(outgoing.end(), frame.begin(), frame.end());
        if constexpr (kIsClient) {
            if (machine_.state() == fsm::ClientState::vouched) return event::Written{};
        }
        return std::nullopt;
    }
    std::optional<Event> run(action::IssueCookie& issue, Instant now) {
        auto keys = crypto::EphemeralKeyPair::generate(pool(), *random_);
        if (!keys) return event::NotPossible{keys.error()};
        server_shorts.push_back(keys->public_key);
        binding.key_slot = static_cast<Byte>(issue.slot);
        auto cookie = keeper->issue(binding, issue.client_short, keys->secret, *random_, now);
        if (!cookie) return event::CookieRefused{cookie.error()};
        return event::CookieIssued{keys->public_key, *cookie};
    }
    std::optional<Event> run(action::RedeemCookie& redeem, Instant now) {
        binding.key_slot = static_cast<Byte>(redeem.slot.value());
        auto contents = keeper->redeem(redeem.cookie, binding, now);
        if (!contents) return event::CookieRefused{contents.error()};
        return event::CookieRedeemed{std::move(*contents)};
    }
    std::optional<Event> run(action::AskVault& ask, Instant) {
        if (!vault_is_slow) return event_of(vault_->ask(ask.request));
        asked = ask.request;
        return std::nullopt;
    }
    std::optional<Event> run(action::Authorise& ask, Instant) {
        if (auto why = authorise(ask.client)) return event::NotAuthorised{std::move(*why)};
        return event::Authorised{};
    }
    std::optional<Event> run(action::Established& established, Instant) {
        session = std::move(established.session);
        peer = established.peer;
        slot = established.slot;
        return std::nullopt;
    }
    std::optional<Event> run(action::Close& close, Instant) {
        closed = std::move(close.why);
        return std::nullopt;
    }

    // As the actor does: reads only what may come now, and refuses a length before its bytes.
    void read(Instant now) {
        while (!closed) {
            const std::size_t want = session ? 0 : machine_.expected_packet_size();
            if (!session && want == 0) return;
            std::size_t size = 0;
            if (incoming.size() >= packets::kFrameHeaderSize) {
                size = packets::parse_frame_header(Bytes(incoming).first<packets::kFrameHeaderSize>());
                if (!session && size != want) {
                    feed(event::PacketRefused{wire::Errc::wrong_length}, now);
                    continue;
                }
            }
            if (incoming.size() < packets::kFrameHeaderSize + size ||
                incoming.size() < packets::kFrameHeaderSize) {
                if (ended_ && session) closed = handshake::Errc::peer_closed;
                if (ended_ && !session) feed(event::PeerClosed{}, now);
                return;
            }
            Buffer packet(incoming.begin() + packets::kFrameHeaderSize,
                          incoming.begin() + static_cast<std::ptrdiff_t>(packets::kFrameHeaderSize + size));
            incoming.erase(incoming.begin(),
                           incoming.begin() + static_cast<std::ptrdiff_t>(packets::kFrameHeaderSize + size));
            take_packet(packet, now);
        }
    }
    void take_packet(Buffer& packet, Instant now) {
        if (session) {
            auto payload = session->open_packet(packet);
            if (payload) {
                delivered.push_back(copy_of(*payload));
            } else {
                closed = payload.error();
            }
            return;
        }
        auto parsed = packets::parse_packet(packet);
        if (parsed) {
            feed(fsm::arrived(*parsed), now);
        } else {
            feed(event::PacketRefused{parsed.error()}, now);
        }
    }

    Machine machine_;
    TestVault* vault_;
    RandomSource* random_;
    bool ended_ = false;
};

using ClientEnd = End<fsm::Client>;
using ServerEnd = End<fsm::Server>;

/// A server's and a client's identity and what their ends need.
struct World {
    explicit World(std::uint64_t seed = 1) : random(seed) {}

    SeededRandom random;
    TestVault server_vault{vault::KeyRole::server, secret_bytes(1)};
    TestVault client_vault{vault::KeyRole::client, secret_bytes(2)};
    cookie::Keeper keeper = *cookie::Keeper::create(pool(), random, kStart);
    handshake::Timeouts timeouts;

    [[nodiscard]] ServerEnd server(Instant now = kStart) {
        ServerEnd out(fsm::Server(vault::KeySlot::server, timeouts, now), server_vault, random);
        out.keeper = &keeper;
        return out;
    }
    [[nodiscard]] ClientEnd client(Instant now = kStart) { return client(client_vault, now); }
    [[nodiscard]] ClientEnd client(TestVault& identity, Instant now = kStart) {
        return ClientEnd(fsm::Client(server_vault.key, timeouts, now + std::chrono::seconds(10)), identity,
                         random);
    }
    [[nodiscard]] crypto::EphemeralKeyPair fresh_keys() {
        return *crypto::EphemeralKeyPair::generate(pool(), random);
    }
};

/// Carries what both have written to the other, until neither writes any more.
inline void carry(ClientEnd& client, ServerEnd& server, Instant now = kStart) {
    while (!client.outgoing.empty() || !server.outgoing.empty()) {
        server.receive(std::exchange(client.outgoing, {}), now);
        client.receive(std::exchange(server.outgoing, {}), now);
    }
}

}  // namespace curvegate::test
