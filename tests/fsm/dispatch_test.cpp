#include "handshake/machine.hpp"

#include <catch2/catch.hpp>

/// How any machine goes by its table, shown by a machine whose handlers do whatever a test wants.
namespace curvegate::handshake {
namespace {

constexpr Instant kNow{};

struct Said {
    static constexpr EventKind kKind = EventKind::start;
};
struct Packet {
    static constexpr EventKind kKind = EventKind::hello;
};
using ToyEvent = std::variant<Said, Packet, event::Authorised, event::VaultRefused, event::VaultLost,
                              event::DeadlineReached, event::Stop>;
struct Did {};
using ToyAction = std::variant<std::monostate, Did, action::Drop, action::Close>;
using ToyActions = std::array<ToyAction, 1>;

enum class ToyState { asleep, awake, gone, closed };

/// asleep, start: awake, unless a test has it end elsewhere.
class Toy : public Machine<Toy, ToyState, ToyEvent, ToyActions> {
  public:
    static std::span<const Transition> table() noexcept {
        static constexpr std::array<Transition, 3> kTable = {{
            {ToyState::asleep, EventKind::start, ToyState::awake, "1", step<&Toy::on_said>},
            {ToyState::awake, EventKind::stop, ToyState::gone, "2", step<&Toy::on_stop>},
            {ToyState::awake, EventKind::deadline_reached, ToyState::awake, "3", step<&Toy::on_deadline>},
        }};
        return kTable;
    }
    static constexpr auto kClosing =
        closing::join(closing::kAlways<ToyEvent>,
                      std::array{closing::as<ToyEvent, event::DeadlineReached, Errc::connect_timeout>});

    Toy() : Machine(kNow) {}

    struct Asleep {};
    struct Awake {};
    struct Gone {};
    std::variant<Asleep, Awake, Gone, Closed> next = Awake{};  ///< where on_said() goes
    ToyAction with = Did{};                                    ///< and what it wants
    bool closes = false;                                       ///< it closes instead
    bool drops_strays = false;

  private:
    friend class Machine<Toy, ToyState, ToyEvent, ToyActions>;

    ToyActions on_said(Asleep&, Said&, Instant) {
        if (closes) return close(Errc::hello_refused);
        state_ = next;
        return {with};
    }
    ToyActions on_stop(Awake&, event::Stop&, Instant) {
        state_ = Gone{};
        return {};
    }
    ToyActions on_deadline(Awake&, event::DeadlineReached&, Instant now) {
        deadline_ = now + std::chrono::seconds(1);
        return {Did{}};
    }
    ToyActions refuse(Error why) {
        if (drops_strays) return {action::Drop{std::move(why)}};
        return close(std::move(why));
    }

    std::variant<Asleep, Awake, Gone, Closed> state_;
};

Toy awake() {
    Toy toy;
    (void)toy.handle(Said{}, kNow);
    return toy;
}
Error why_closed(const Toy& toy, const ToyActions& did) {
    CHECK(toy.state() == ToyState::closed);
    CHECK_FALSE(toy.next_deadline().has_value());
    REQUIRE(std::holds_alternative<action::Close>(did[0]));
    return std::get<action::Close>(did[0]).why;
}

TEST_CASE("a row's handler is what an event leads to", "[fsm]") {
    Toy toy;
    CHECK(std::holds_alternative<Did>(toy.handle(Said{}, kNow)[0]));
    CHECK(toy.state() == ToyState::awake);
    CHECK(std::holds_alternative<Did>(toy.handle(event::DeadlineReached{}, kNow)[0]));
    CHECK(toy.next_deadline() == kNow + std::chrono::seconds(1));
}

TEST_CASE("a handler may close instead of leading where its row says", "[fsm]") {
    Toy toy;
    toy.closes = true;
    CHECK(why_closed(toy, toy.handle(Said{}, kNow)).is(Errc::hello_refused));
}

TEST_CASE("a handler may drop a packet, if it stays where it is", "[fsm]") {
    Toy toy;
    toy.next = Toy::Asleep{};
    toy.with = action::Drop{Errc::cookie_does_not_open};
    CHECK(std::holds_alternative<action::Drop>(toy.handle(Said{}, kNow)[0]));
    CHECK(toy.state() == ToyState::asleep);
}

TEST_CASE("a handler that leads elsewhere is a defect of ours, and closes", "[fsm]") {
    SECTION("to another state") {
        Toy toy;
        toy.next = Toy::Gone{};
        CHECK(why_closed(toy, toy.handle(Said{}, kNow)).is(Errc::bug));
    }
    SECTION("nowhere") {
        Toy toy;
        toy.next = Toy::Asleep{};
        CHECK(why_closed(toy, toy.handle(Said{}, kNow)).is(Errc::bug));
    }
    SECTION("elsewhere with a drop") {
        Toy toy;
        toy.next = Toy::Gone{};
        toy.with = action::Drop{Errc::cookie_does_not_open};
        CHECK(why_closed(toy, toy.handle(Said{}, kNow)).is(Errc::bug));
    }
    SECTION("closed without a word") {
        Toy toy;
        toy.next = Closed{};
        CHECK(why_closed(toy, toy.handle(Said{}, kNow)).is(Errc::bug));
    }
}

TEST_CASE("what closes in every state gives way to a row of the machine's own", "[fsm]") {
    Toy asleep;
    CHECK(why_closed(asleep, asleep.handle(event::Stop{}, kNow)).is(Errc::stopped));
    Toy other = awake();
    (void)other.handle(event::Stop{}, kNow);
    CHECK(other.state() == ToyState::gone);
    Toy late;
    CHECK(why_closed(late, late.handle(event::DeadlineReached{}, kNow)).is(Errc::connect_timeout));
}

TEST_CASE("an event that no table lists closes, a packet as the peer's fault", "[fsm]") {
    Toy toy = awake();
    CHECK(why_closed(toy, toy.handle(Packet{}, kNow)).is(Errc::unexpected_packet));
    Toy other = awake();
    CHECK(why_closed(other, other.handle(event::Authorised{}, kNow)).is(Errc::bug));
}

TEST_CASE("a machine may meet what no table lists in a way of its own", "[fsm]") {
    Toy toy = awake();
    toy.drops_strays = true;
    CHECK(std::holds_alternative<action::Drop>(toy.handle(Packet{}, kNow)[0]));
    CHECK(toy.state() == ToyState::awake);
}

TEST_CASE("a closed machine hears nothing", "[fsm]") {
    Toy toy;
    (void)toy.handle(event::Stop{}, kNow);
    CHECK(std::holds_alternative<std::monostate>(toy.handle(Said{}, kNow)[0]));
    CHECK(toy.state() == ToyState::closed);
}

}  // namespace
}  // namespace curvegate::handshake
