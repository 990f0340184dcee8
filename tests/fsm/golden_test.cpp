#include "support/golden.hpp"
#include "support/kinds.hpp"
#include "support/script.hpp"

#include <catch2/catch.hpp>

/// Every state x event pair of both machines, driven for real and compared with server.golden and
/// client.golden.
namespace curvegate::handshake::curve_tun {
namespace {

using test::Script;

std::string name_of(const Action& action) {
    constexpr std::array<std::string_view, std::variant_size_v<Action>> names = {
        "nothing", "send", "issue_cookie", "redeem_cookie", "ask_vault", "authorise", "established", "close"};
    std::string out(names.at(action.index()));
    if (const auto* send = std::get_if<action::Send>(&action)) {
        constexpr std::array<std::string_view, 4> packets = {"hello", "cookie", "vouch", "message"};
        out += " " + std::string(packets.at(wire::curve_tun::parse_packet(send->packet())->index()));
    }
    if (const auto* ask = std::get_if<action::AskVault>(&action)) {
        constexpr std::array<std::string_view, 4> verbs = {"answer_hello", "make_vouch", "open_vouch",
                                                           "public_key"};
        out += " " + std::string(verbs.at(ask->request.index()));
    }
    if (const auto* close = std::get_if<action::Close>(&action))
        out += ": " + std::string(close->why.layer()) + ": " + close->why.text();
    return out;
}

struct Step {
    std::string from;
    EventKind on;
    std::string to;
    std::string action;
    bool closed;
    Deadline deadline;
};

template <class Machine>
Step step(Machine machine, Event&& event) {
    const EventKind kind = kind_of(event);
    const std::string from(name_of(machine.state()));
    const Instant at =
        kind == EventKind::deadline_reached ? machine.next_deadline().value_or(test::kStart) : test::kStart;
    const auto actions = machine.handle(std::move(event), at);
    const std::string to(name_of(machine.state()));
    return {from, kind, to, name_of(actions[0]), to == "closed", machine.next_deadline()};
}

const std::vector<EventKind> kEvents = test::kinds_of<Event>();

std::vector<Step> server_steps() {
    Script script;
    std::vector<Step> out;
    for (std::size_t state = 0; state < kServerStates; ++state) {
        for (const auto kind : kEvents)
            out.push_back(step(script.server_in(static_cast<ServerState>(state)), script.event(kind)));
    }
    return out;
}
std::vector<Step> client_steps() {
    Script script;
    std::vector<Step> out;
    for (std::size_t state = 0; state < kClientStates; ++state) {
        for (const auto kind : kEvents)
            out.push_back(step(script.client_in(static_cast<ClientState>(state)), script.event(kind)));
    }
    return out;
}

std::string listing(const std::vector<Step>& steps) {
    std::string out;
    for (const auto& step : steps) {
        out += step.from + " + " + std::string(handshake::name_of(step.on)) + " -> " + step.to + ", " +
               step.action + "\n";
    }
    return out;
}

TEST_CASE("the server's machine does in each state with each event what the listing says", "[fsm]") {
    const auto steps = server_steps();
    REQUIRE(steps.size() == kServerStates * kEvents.size());
    test::compare_with_golden("fsm/server.golden", listing(steps));
}

TEST_CASE("the client's machine does in each state with each event what the listing says", "[fsm]") {
    const auto steps = client_steps();
    REQUIRE(steps.size() == kClientStates * kEvents.size());
    test::compare_with_golden("fsm/client.golden", listing(steps));
}

template <class Machine>
void check_table(const std::vector<Step>& steps, std::size_t states) {
    using State = decltype(Machine::Transition::from);
    const auto table = Machine::table();
    std::size_t used = 0;
    for (std::size_t i = 0; i < steps.size(); ++i) {
        const auto& step = steps[i];
        const auto from = static_cast<State>(i / kEvents.size());
        INFO(step.from << " + " << handshake::name_of(step.on));
        CHECK(step.from == name_of(from));  // the script did reach the state
        const auto* line = find_transition(table, from, step.on);
        if (line != nullptr) {
            CHECK(step.to == name_of(line->to));
            CHECK_FALSE(line->section.empty());
            ++used;
        } else {
            CHECK(step.closed);
        }
        if (step.closed) CHECK_FALSE(step.deadline.has_value());
    }
    CHECK(used == table.size());
    CHECK(steps.size() == states * kEvents.size());
}

TEST_CASE("the tables list every step that does not close, and no other", "[fsm]") {
    check_table<Server>(server_steps(), kServerStates);
    check_table<Client>(client_steps(), kClientStates);
}

TEST_CASE("no two lines of a table begin alike", "[fsm]") {
    for (const auto& line : Server::table())
        CHECK(find_transition(Server::table(), line.from, line.on) == &line);
    for (const auto& line : Client::table())
        CHECK(find_transition(Client::table(), line.from, line.on) == &line);
}

TEST_CASE("every state that waits for somebody has a deadline", "[fsm]") {
    Script script;
    for (const auto state : {ServerState::ready, ServerState::issuing, ServerState::answering,
                             ServerState::accepting, ServerState::redeeming, ServerState::checking}) {
        INFO(name_of(state));
        CHECK(script.server_in(state).next_deadline().has_value());
    }
    for (const auto state :
         {ClientState::ready, ClientState::initiating, ClientState::vouching, ClientState::vouched}) {
        INFO(name_of(state));
        CHECK(script.client_in(state).next_deadline().has_value());
    }
    CHECK_FALSE(script.server_in(ServerState::connected).next_deadline().has_value());
    CHECK_FALSE(script.client_in(ClientState::connected).next_deadline().has_value());
}

TEST_CASE("bytes are read in the states that wait for a packet, and in no other", "[fsm]") {
    Script script;
    for (std::size_t i = 0; i < kServerStates; ++i) {
        const auto state = static_cast<ServerState>(i);
        const std::size_t want = state == ServerState::ready       ? 128
                                 : state == ServerState::accepting ? 224
                                                                   : 0;
        CHECK(script.server_in(state).expected_packet_size() == want);
    }
    for (std::size_t i = 0; i < kClientStates; ++i) {
        const auto state = static_cast<ClientState>(i);
        CHECK(script.client_in(state).expected_packet_size() ==
              (state == ClientState::initiating ? 168U : 0U));
    }
}

TEST_CASE("leaving a state wipes its secrets", "[fsm]") {
    Script script;
    const auto idle = test::pool().in_use();
    for (std::size_t i = 0; i < kServerStates; ++i) {
        auto machine = script.server_in(static_cast<ServerState>(i));
        (void)machine.handle(event::Stop{}, test::kStart);
        CHECK(test::pool().in_use() == idle);
    }
    for (std::size_t i = 0; i < kClientStates; ++i) {
        auto machine = script.client_in(static_cast<ClientState>(i));
        (void)machine.handle(event::Stop{}, test::kStart);
        CHECK(test::pool().in_use() == idle);
    }
    // A connected machine has handed its key to the session; one that waits for a vouch holds none at all.
    const auto connected = script.server_in(ServerState::connected);
    const auto accepting = script.server_in(ServerState::accepting);
    CHECK(test::pool().in_use() == idle);
}

}  // namespace
}  // namespace curvegate::handshake::curve_tun
