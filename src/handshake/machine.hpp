#pragma once

#include "base/time.hpp"
#include "handshake/actions.hpp"
#include "service/service.hpp"

#include <span>
#include <type_traits>

/// How a machine goes from state to state: by a table whose rows hold what is done. A machine does no I/O and
/// asks no clock. Its actor runs the action that an event leads to before the next event.
namespace curvegate::handshake {

using service::Timeouts;

/// Every machine's last state: whatever comes then is ignored.
struct Closed {};

// ---- what closes a machine in every state ----

/// A row of the table that holds in every state in which a machine's own table does not list the event.
template <class Event>
struct Closing {
    EventKind on;
    Error (*why)(const Event&);
};

namespace closing {
[[nodiscard]] Error reason(const event::PacketRefused& refused);
[[nodiscard]] Error reason(const event::CookieRefused& refused);
[[nodiscard]] Error reason(const event::NotPossible& lack);
[[nodiscard]] Error reason(const event::VaultRefused& refused);
[[nodiscard]] Error reason(const event::VaultLost& lost);
[[nodiscard]] Error reason(const event::NotAuthorised& refused);
/// For the reason that the event brings.
template <class Event, class Content>
inline constexpr Closing<Event> by{Content::kKind,
                                   [](const Event& event) { return reason(std::get<Content>(event)); }};
/// For a reason that is always the same.
template <class Event, class Content, Errc code>
inline constexpr Closing<Event> as{Content::kKind, [](const Event&) { return Error(code); }};

/// Of every machine.
template <class Event>
inline constexpr std::array kAlways = {
    by<Event, event::VaultRefused>,
    by<Event, event::VaultLost>,
    as<Event, event::Stop, Errc::stopped>,
};
/// Of those that ask for keys, cookies or permission.
template <class Event>
inline constexpr std::array kRefusals = {
    by<Event, event::CookieRefused>,
    by<Event, event::NotPossible>,
    by<Event, event::NotAuthorised>,
};
/// Of those over a connection, where every packet is the peer's own.
template <class Event>
inline constexpr std::array kConnection = {
    by<Event, event::PacketRefused>,
    as<Event, event::PeerClosed, Errc::peer_closed>,
};

/// One table of several.
template <class Event, std::size_t... N>
[[nodiscard]] constexpr auto join(const std::array<Closing<Event>, N>&... tables) {
    std::array<Closing<Event>, (N + ...)> out{};
    auto* end = out.begin();
    ((end = std::ranges::copy(tables, end).out), ...);
    return out;
}
}  // namespace closing

// ---- the machine ----

/// The base of every machine: `Self` derives from it, `StateName` is an enum of its states (the last one
/// `closed`), `Event` and `Actions` are its wire's. Self befriends it and has
/// - `state_`, a variant with an alternative for each name of a state, in the same order;
/// - `table()`, its rows, and `kClosing`, what closes it in every state;
/// - a function for each row: `Actions f(State&, event::E&, Instant)`.
template <class Self, class StateName, class Event, class Actions>
class Machine {
  public:
    using EventType = Event;

    /// A function of Self with the state and the event that it is for.
    struct Handler {
        Actions (*run)(Self&, Event&, Instant);
        StateName from;
        EventKind on;
    };
    /// In `from`, `on` leads to `to`; a machine may always close instead, or drop what is not for it.
    struct Transition {
        StateName from;
        EventKind on;
        StateName to;
        std::string_view section;  ///< of PROTOCOL.md
        Handler handler;

        /// A row with a handler for another state or event does not compile.
        constexpr Transition(StateName in, EventKind event, StateName next, std::string_view of, Handler does)
            : from(in), on(event), to(next), section(of), handler(does) {
            if (does.from != in || does.on != event) throw "not the handler of this row";
        }
    };

    /// Takes one event and tells what it leads to, by the table. An event that no table lists meets
    /// undeclared(); a handler that does not lead to `to` is a defect of ours (Errc::bug). Both close.
    [[nodiscard]] Actions handle(Event&& event, Instant now);
    /// When to bring DeadlineReached; nullopt: never.
    [[nodiscard]] Deadline next_deadline() const noexcept { return deadline_; }
    [[nodiscard]] StateName state() const noexcept {
        return static_cast<StateName>(static_cast<const Self&>(*this).state_.index());
    }

  private:
    template <class State, class... States>
    [[nodiscard]] static constexpr StateName name_of_state(std::type_identity<std::variant<States...>>) {
        std::size_t index = 0;
        (void)((std::is_same_v<State, States> || (++index, false)) || ...);
        return static_cast<StateName>(index);
    }
    template <auto kMember, class State, class Content>
    [[nodiscard]] static constexpr Handler handler_of(Actions (Self::*)(State&, Content&, Instant)) {
        return {[](Self& self, Event& event, Instant now) {
                    return (self.*kMember)(std::get<State>(self.state_), std::get<Content>(event), now);
                },
                name_of_state<State>(std::type_identity<decltype(Self::state_)>{}), Content::kKind};
    }

    // Self's alone: nobody else derives from this.
    friend Self;
    explicit Machine(Deadline deadline = std::nullopt) noexcept : deadline_(deadline) {}

  protected:
    /// The handler of a row.
    template <auto kMember>
    static constexpr Handler step = handler_of<kMember>(kMember);

    /// Ends the handshake and wipes what the state held.
    [[nodiscard]] Actions close(Error why);
    /// What an event that no table lists leads to; Self may have one of its own.
    [[nodiscard]] Actions refuse(Error why) { return close(std::move(why)); }

    Deadline deadline_;

  private:
    [[nodiscard]] Actions answer_in_any_state(const Event& event);
    [[nodiscard]] bool has_followed(const Transition& row, const Actions& did) const;
    [[nodiscard]] Self& self() noexcept { return static_cast<Self&>(*this); }
};

/// Like std::holds_alternative; false if the variant has no such alternative.
template <class T, class... Ts>
[[nodiscard]] constexpr bool holds(const std::variant<Ts...>& of) noexcept {
    if constexpr ((std::is_same_v<T, Ts> || ...)) return std::holds_alternative<T>(of);
    return false;
}

/// The row for this event in this state, or nullptr.
template <class Transition, class StateName>
[[nodiscard]] constexpr const Transition* find_transition(std::span<const Transition> table, StateName from,
                                                          EventKind on) noexcept {
    for (const auto& row : table) {
        if (row.from == from && row.on == on) return &row;
    }
    return nullptr;
}

template <class Self, class StateName, class Event, class Actions>
Actions Machine<Self, StateName, Event, Actions>::handle(Event&& event, Instant now) {
    const StateName from = state();
    if (from == StateName::closed) return {};  // late answers find nobody
    const Transition* row = find_transition(Self::table(), from, kind_of(event));
    if (row == nullptr) return answer_in_any_state(event);
    Actions out = row->handler.run(self(), event, now);
    if (!has_followed(*row, out)) out = close({Errc::bug, std::string(name_of(row->on))});
    return out;
}

template <class Self, class StateName, class Event, class Actions>
Actions Machine<Self, StateName, Event, Actions>::answer_in_any_state(const Event& event) {
    const EventKind on = kind_of(event);
    for (const auto& row : Self::kClosing) {
        if (row.on == on) return close(row.why(event));
    }
    return self().refuse(undeclared(on));
}

template <class Self, class StateName, class Event, class Actions>
bool Machine<Self, StateName, Event, Actions>::has_followed(const Transition& row, const Actions& did) const {
    const StateName at = state();
    if (at == row.to) return true;
    if (at == StateName::closed) return holds<action::Close>(did.front());
    return at == row.from && holds<action::Drop>(did.front());
}

template <class Self, class StateName, class Event, class Actions>
Actions Machine<Self, StateName, Event, Actions>::close(Error why) {
    self().state_ = Closed{};
    deadline_.reset();
    return {action::Close{std::move(why)}};
}

}  // namespace curvegate::handshake
