#include "support/curvecp.hpp"
#include "support/golden.hpp"
#include "support/kinds.hpp"

#include <catch2/catch.hpp>

/// Every state x event pair of CurveCP's machines, driven for real and compared with curvecp_server.golden
/// and curvecp_client.golden.
namespace curvegate::handshake::curvecp {
namespace {

using test::udp::Script;

const std::vector<EventKind> kEvents = test::kinds_of<Event>();

std::string name_of(const Action& action) {
    constexpr std::array<std::string_view, std::variant_size_v<Action>> names = {
        "nothing",      "send",        "issue_cookie", "redeem_cookie", "ask_vault", "authorise",
        "claim_cookie", "established", "vouched",      "ask_afresh",    "drop",      "close"};
    std::string out(names.at(action.index()));
    if (const auto* send = std::get_if<action::Send>(&action))
        out += wire::curvecp::parse_to_server(send->packet()) ? " hello" : " cookie";
    if (const auto* ask = std::get_if<action::AskVault>(&action)) {
        constexpr std::array<std::string_view, 4> verbs = {"answer_hello", "make_vouch", "open_vouch",
                                                           "public_key"};
        out += " " + std::string(verbs.at(ask->request.index()));
    }
    if (const auto* drop = std::get_if<action::Drop>(&action))
        out += ": " + std::string(drop->why.layer()) + ": " + drop->why.text();
    if (const auto* close = std::get_if<action::Close>(&action))
        out += ": " + std::string(close->why.layer()) + ": " + close->why.text();
    return out;
}

struct Step {
    std::string from;
    EventKind on;
    std::string to;
    std::string action;
    Deadline before;
    Deadline after;
};

template <class Machine>
Step step(Machine machine, Event&& event) {
    const EventKind kind = kind_of(event);
    const std::string from(name_of(machine.state()));
    const Deadline before = machine.next_deadline();
    const Instant at = kind == EventKind::deadline_reached ? before.value_or(test::kStart) : test::kStart;
    const auto actions = machine.handle(std::move(event), at);
    return {from,
            kind,
            std::string(name_of(machine.state())),
            name_of(actions[0]),
            before,
            machine.next_deadline()};
}

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

TEST_CASE("CurveCP's server does in each state with each event what the listing says", "[fsm][curvecp]") {
    const auto steps = server_steps();
    REQUIRE(steps.size() == kServerStates * kEvents.size());
    test::compare_with_golden("fsm/curvecp_server.golden", listing(steps));
}

TEST_CASE("CurveCP's client does in each state with each event what the listing says", "[fsm][curvecp]") {
    const auto steps = client_steps();
    REQUIRE(steps.size() == kClientStates * kEvents.size());
    test::compare_with_golden("fsm/curvecp_client.golden", listing(steps));
}

TEST_CASE("every kind of event that is not curve_tun's alone is one of CurveCP's", "[fsm][curvecp]") {
    for (std::size_t i = 0; i < kEventKinds; ++i) {
        const auto kind = static_cast<EventKind>(i);
        const bool of_tcp =
            kind == EventKind::packet_refused || kind == EventKind::written || kind == EventKind::peer_closed;
        INFO(handshake::name_of(kind));
        CHECK(std::ranges::count(kEvents, kind) == (of_tcp ? 0 : 1));
    }
}

/// What is not in the table closes, or (a stray packet at a client) changes nothing; a closed machine stays
/// so.
template <class Machine>
void check_table(const std::vector<Step>& steps) {
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
            CHECK(line->section.starts_with("7."));
            CHECK_FALSE(step.action.starts_with("drop"));
            ++used;
        } else if (step.action.starts_with("drop")) {
            CHECK(step.to == step.from);
            CHECK(step.after == step.before);
        } else {
            CHECK(step.to == "closed");
            CHECK(step.action.starts_with(step.from == "closed" ? "nothing" : "close"));
        }
        if (step.to == "closed") CHECK_FALSE(step.after.has_value());
    }
    CHECK(used == table.size());
}

TEST_CASE("CurveCP's tables list every step that leads on, and no other", "[fsm][curvecp]") {
    check_table<Server>(server_steps());
    check_table<Client>(client_steps());
}

TEST_CASE("no two lines of a table of CurveCP begin alike", "[fsm][curvecp]") {
    for (const auto& line : Server::table())
        CHECK(find_transition(Server::table(), line.from, line.on) == &line);
    for (const auto& line : Client::table())
        CHECK(find_transition(Client::table(), line.from, line.on) == &line);
}

TEST_CASE("no packet that a stranger can send ends a client's handshake", "[fsm][curvecp]") {
    for (const auto& step : client_steps()) {
        INFO(step.from << " + " << handshake::name_of(step.on));
        const bool packet = step.on == EventKind::hello || step.on == EventKind::cookie ||
                            step.on == EventKind::vouch || step.on == EventKind::message;
        if (packet) CHECK((step.to == "closed") == (step.from == "closed"));
    }
}

// A server waits for nobody but the vault, and vault_client::VaultClient bounds that.
TEST_CASE("every state of CurveCP's client that waits has a deadline", "[fsm][curvecp]") {
    Script script;
    for (const auto state :
         {ClientState::ready, ClientState::initiating, ClientState::vouching, ClientState::vouched}) {
        INFO(name_of(state));
        CHECK(script.client_in(state).next_deadline().has_value());
    }
    CHECK_FALSE(script.client_in(ClientState::connected).next_deadline().has_value());
}

TEST_CASE("leaving a state of CurveCP wipes its secrets", "[fsm][curvecp]") {
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
    // A server that has answered a Hello keeps nothing of it, and a connected one has handed on its key.
    const auto answered = script.server_in(ServerState::closed);
    const auto connected = script.server_in(ServerState::connected);
    const auto vouched = script.client_in(ClientState::vouched);
    CHECK(test::pool().in_use() == idle);
}

}  // namespace
}  // namespace curvegate::handshake::curvecp
