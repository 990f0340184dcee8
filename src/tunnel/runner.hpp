#pragma once

#include "cookie/keeper.hpp"
#include "handshake/actions.hpp"

#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

namespace curvegate::tunnel {

/// Runs a machine of a handshake: does what it wants, brings it what comes of that, and goes on until it
/// waits for somebody. It has no socket, timer or clock; those are `Port`'s, which owns it. Nothing is
/// allocated but what the vault's client allocates for a question. A Port has
/// - `tools()`: `vault`, `keeper` (servers), `pool` and `random`, as in HandshakeTools;
/// - `now()`;
/// - `hold()`: something that keeps the Port alive while the vault thinks and that is true as long as the
///   answer is wanted;
/// - `start(keys)` (clients): the event with which its machine begins;
/// - `origin()` (servers): which wire and address a cookie is bound to;
/// - `admit()` (servers): an error if the client whose cookie has opened gets no place. It is asked before
///   any public-key work;
/// - `authorise(ask)` (servers): nullopt if this key may in, and otherwise the reason for the log;
/// - `on(action)` for each other action that its machine has: send, established, close and so on. It gives
///   nothing, or the event that answers the action at once;
/// - `settled()`: an event and all that came of it is over. The state and next_deadline() may be others. It
///   is the last thing that the Runner does then, so it may destroy it.
template <class Machine, class Port>
class Runner {
  public:
    using Event = typename Machine::EventType;

    /// `port` owns this. The machine is made of `arguments`.
    template <class... Arguments>
    explicit Runner(Port& port, Arguments&&... arguments)
        : machine_(std::forward<Arguments>(arguments)...), port_(&port) {}
    Runner(const Runner&) = delete;
    Runner& operator=(const Runner&) = delete;

    [[nodiscard]] auto state() const noexcept { return machine_.state(); }
    [[nodiscard]] Deadline next_deadline() const noexcept { return machine_.next_deadline(); }
    [[nodiscard]] const Machine& machine() const noexcept { return machine_; }

    /// Client: begins, with a fresh key pair.
    void begin() { feed(fresh_start()); }
    /// Client: the event with which to begin, or to begin afresh: a fresh key pair, or that there is none.
    [[nodiscard]] Event fresh_start() {
        auto keys = crypto::EphemeralKeyPair::generate(*port_->tools().pool, *port_->tools().random);
        if (!keys) return handshake::event::NotPossible{std::move(keys.error())};
        return port_->start(std::move(*keys));
    }

    void feed(Event&& first) {
        Port& port = *port_;
        std::optional<Event> next(std::move(first));
        while (next) {
            auto actions = machine_.handle(std::move(*next), port.now());
            next.reset();
            std::visit([this, &next](auto& action) { this->run(action, next); }, actions.front());
        }
        port.settled();
    }
    /// Brings DeadlineReached if next_deadline() has come.
    void look_at_clock(Instant now) {
        if (const auto deadline = next_deadline(); deadline && *deadline <= now)
            feed(handshake::event::DeadlineReached{});
    }

  private:
    using Next = std::optional<Event>;
    static constexpr bool kIsServer = requires(Port& port) { port.origin(); };

    void run(std::monostate&, Next&) {}
    void run(handshake::action::IssueCookie& issue, Next& next)
        requires kIsServer
    {
        // PROTOCOL 4.3, 7.3: a key pair of its own for each hello, an identical one too.
        auto& tools = port_->tools();
        auto keys = crypto::EphemeralKeyPair::generate(*tools.pool, *tools.random);
        if (!keys) {
            next = handshake::event::NotPossible{std::move(keys.error())};
            return;
        }
        auto cookie = tools.keeper->issue(binding(issue.slot), issue.client_short, keys->secret,
                                          *tools.random, port_->now());
        if (cookie)
            next = handshake::event::CookieIssued{keys->public_key, *cookie};
        else
            next = handshake::event::CookieRefused{std::move(cookie.error())};
    }
    void run(handshake::action::RedeemCookie& redeem, Next& next)
        requires kIsServer
    {
        auto redeemed =
            redeem.slot ? port_->tools().keeper->redeem(redeem.cookie, binding(*redeem.slot), port_->now())
                        : port_->tools().keeper->redeem(redeem.cookie, port_->origin(), port_->now());
        if (!redeemed) {
            next = handshake::event::CookieRefused{std::move(redeemed.error())};
            return;
        }
        // A replay costs no place: the machine refuses it.
        if (!redeemed->used) {
            if (auto place = port_->admit(); !place) {
                next = handshake::event::NotPossible{std::move(place.error())};
                return;
            }
        }
        next = handshake::event::CookieRedeemed{std::move(*redeemed)};
    }
    void run(handshake::action::ClaimCookie& claim, Next& next)
        requires kIsServer
    {
        if (port_->tools().keeper->claim(claim.ticket))
            next = handshake::event::CookieClaimed{};
        else
            next = handshake::event::CookieRefused{handshake::Errc::cookie_used};
    }
    void run(handshake::action::AskVault& ask, Next&) {
        port_->tools().vault->ask(ask.request, [this, hold = port_->hold()](Result<vault::ReplyBody> reply) {
            if (hold) this->feed(handshake::event_of<Event>(std::move(reply)));
        });
    }
    template <class Ask>
        requires requires(Port& port, Ask& ask) { port.authorise(ask); }
    void run(Ask& ask, Next& next) {
        if (auto why = port_->authorise(ask))
            next = handshake::event::NotAuthorised{std::move(*why)};
        else
            next = handshake::event::Authorised{};
    }
    template <class Own>
    void run(Own& action, Next& next) {
        if constexpr (std::is_void_v<decltype(port_->on(action))>)
            port_->on(action);
        else
            next = port_->on(action);
    }

    [[nodiscard]] cookie::Binding binding(vault::KeySlot slot) const {
        const cookie::Origin origin = port_->origin();
        return {origin.wire, static_cast<Byte>(slot), origin.source};
    }

    Machine machine_;
    Port* port_;
};

}  // namespace curvegate::tunnel
