#include "support/script.hpp"

#include <catch2/catch.hpp>

#include <set>

/// Every reason for which a handshake can end, each brought about.
namespace curvegate::handshake::curve_tun {
namespace {

using namespace std::chrono_literals;
using test::kStart;
using test::Script;
namespace packets = curvegate::wire::curve_tun;

struct Case {
    Errc code;
    std::function<Actions(Script&)> provoke;
};

Actions server_gets(Script& script, ServerState in, Event&& event, Instant now = kStart) {
    auto machine = script.server_in(in);
    return machine.handle(std::move(event), now);
}
Actions client_gets(Script& script, ClientState in, Event&& event, Instant now = kStart) {
    auto machine = script.client_in(in);
    return machine.handle(std::move(event), now);
}

packets::SealedHello numbered_hello(Script& script) {
    auto hello = script.hello();
    hello.number = {1};
    return hello;
}
packets::SealedVouch changed_vouch(Script& script, std::size_t box_byte) {
    auto vouch = script.vouch();
    vouch.box.bytes[box_byte] = static_cast<Byte>(vouch.box.bytes[box_byte] ^ 1);
    return vouch;
}
packets::SealedVouch vouch_with_other_cookie(Script& script) {
    auto vouch = script.vouch();
    vouch.cookie.bytes[0] = static_cast<Byte>(vouch.cookie.bytes[0] ^ 1);
    return vouch;
}
Actions cookie_of_another_client(Script& script) {
    auto& world = script.world();
    const auto other = world.fresh_keys();
    return server_gets(script, ServerState::redeeming,
                       event::CookieRedeemed{
                           {{other.public_key, std::move(test::Script::server_keys().secret)}, {}, false}});
}
Actions altered_outer_box(Script& script) {
    auto machine = script.server_in(ServerState::accepting);
    (void)machine.handle(arrived(changed_vouch(script, 40)), kStart);
    return machine.handle(script.event(EventKind::cookie_redeemed), kStart);
}
Actions altered_cookie_packet(Script& script) {
    auto cookie = script.cookie_packet();
    cookie.box.bytes[0] = static_cast<Byte>(cookie.box.bytes[0] ^ 1);
    return client_gets(script, ClientState::initiating, arrived(cookie));
}

std::vector<Case> cases() {
    using State = ServerState;
    return {
        {Errc::unexpected_packet,
         [](Script& s) { return server_gets(s, State::ready, s.event(EventKind::vouch)); }},
        {Errc::wrong_number,
         [](Script& s) { return server_gets(s, State::ready, arrived(numbered_hello(s))); }},
        {Errc::cookie_not_ours,
         [](Script& s) { return server_gets(s, State::accepting, arrived(vouch_with_other_cookie(s))); }},
        {Errc::cookie_mismatch, cookie_of_another_client},
        {Errc::vouch_does_not_open, altered_outer_box},
        {Errc::cookie_does_not_open, altered_cookie_packet},
        {Errc::hello_refused,
         [](Script& s) {
             return server_gets(s, State::answering, event::VaultRefused{vault::Status::box_does_not_open});
         }},
        {Errc::vouch_refused,
         [](Script& s) {
             return server_gets(s, State::checking, event::VaultRefused{vault::Status::vouch_is_wrong});
         }},
        {Errc::not_authorised,
         [](Script& s) { return server_gets(s, State::authorising, event::NotAuthorised{"revoked"}); }},
        {Errc::peer_closed, [](Script& s) { return server_gets(s, State::accepting, event::PeerClosed{}); }},
        {Errc::hello_timeout,
         [](Script& s) { return server_gets(s, State::ready, event::DeadlineReached{}, kStart + 5s); }},
        {Errc::vouch_timeout,
         [](Script& s) { return server_gets(s, State::accepting, event::DeadlineReached{}, kStart + 5s); }},
        {Errc::connect_timeout,
         [](Script& s) {
             return client_gets(s, ClientState::initiating, event::DeadlineReached{}, kStart + 10s);
         }},
        {Errc::vault_timeout,
         [](Script& s) { return server_gets(s, State::answering, event::DeadlineReached{}, kStart + 5s); }},
        {Errc::vault_unavailable,
         [](Script& s) { return server_gets(s, State::checking, event::VaultLost{"it ended"}); }},
        {Errc::no_secret_memory,
         [](Script& s) {
             return server_gets(s, State::issuing, event::NotPossible{crypto::Errc::secrets_full});
         }},
        {Errc::stopped, [](Script& s) { return server_gets(s, State::ready, event::Stop{}); }},
        {Errc::bug, [](Script& s) { return server_gets(s, State::ready, event::Authorised{}); }},
    };
}

TEST_CASE("every reason for an end has an event that brings it about", "[fsm]") {
    Script script;
    std::set<Errc> seen;
    for (const auto& one : cases()) {
        INFO(describe(one.code));
        const auto actions = one.provoke(script);
        REQUIRE(std::holds_alternative<action::Close>(actions[0]));
        CHECK(std::get<action::Close>(actions[0]).why.is(one.code));
        seen.insert(one.code);
    }
    // Errc counts from 1, bug is the last; cookie_used is CurveCP's (curvecp_errors_test.cpp).
    CHECK(seen.size() == static_cast<std::size_t>(Errc::bug) - 1);
    CHECK_FALSE(seen.contains(Errc::cookie_used));
    for (const auto code : seen) CHECK(describe(code) != "unknown");
}

TEST_CASE("a refusal of the vault means the same in every verb", "[fsm]") {
    CHECK(meaning_of(vault::Status::weak_key).is(crypto::Errc::weak_key));
    for (const auto status : {vault::Status::no_such_key, vault::Status::unknown_peer,
                              vault::Status::over_rate, vault::Status::no_nonce, vault::Status::no_memory}) {
        const auto why = meaning_of(status);
        CHECK(why.is(Errc::vault_unavailable));
        CHECK(why.detail() == describe(status));
    }
}

TEST_CASE("the client tells the vault's delay from the server's", "[fsm]") {
    Script script;
    const auto reason = [&](Instant at) {
        const auto actions = client_gets(script, ClientState::vouching, event::DeadlineReached{}, at);
        return std::get<action::Close>(actions[0]).why;
    };
    CHECK(reason(kStart + 5s).is(Errc::vault_timeout));
    CHECK(reason(kStart + 10s).is(Errc::connect_timeout));
}

TEST_CASE("a vouch or hello with any other number is refused", "[fsm]") {
    Script script;
    for (const std::uint64_t number :
         {std::uint64_t{0}, std::uint64_t{2}, std::uint64_t{1} << 63, ~std::uint64_t{0}}) {
        auto vouch = script.vouch();
        vouch.number = {number};
        const auto actions = server_gets(script, ServerState::accepting, arrived(vouch));
        CHECK(std::get<action::Close>(actions[0]).why.is(Errc::wrong_number));
    }
    for (const std::uint64_t number : {std::uint64_t{1}, std::uint64_t{1} << 56, ~std::uint64_t{0}}) {
        auto hello = script.hello();
        hello.number = {number};
        const auto actions = server_gets(script, ServerState::ready, arrived(hello));
        CHECK(std::get<action::Close>(actions[0]).why.is(Errc::wrong_number));
    }
}

TEST_CASE("a cookie packet with any bit changed does not open", "[fsm]") {
    Script script;
    ByteArray<packets::kCookiePacketSize> packet{};
    serialise(script.cookie_packet(), packet);
    const auto before = Bytes(packet).subspan(packets::kMagicSize);
    test::each_bit_flip(before, [&](const test::Buffer& changed, std::size_t bit) {
        if (bit % 5 != 0) return;  // each is one machine with a fresh key agreement
        INFO("bit " << bit);
        auto altered = packet;
        std::ranges::copy(changed, altered.begin() + packets::kMagicSize);
        const auto actions =
            client_gets(script, ClientState::initiating, arrived(*packets::parse_packet(altered)));
        REQUIRE(std::holds_alternative<action::Close>(actions[0]));
        REQUIRE(std::get<action::Close>(actions[0]).why.is(Errc::cookie_does_not_open));
    });
}

TEST_CASE("a vouch packet with any bit changed is refused", "[fsm]") {
    Script script;
    ByteArray<packets::kVouchSize> packet{};
    serialise(script.vouch(), packet);
    test::each_bit_flip(packet, [&](const test::Buffer& changed, std::size_t bit) {
        if (bit < packets::kMagicSize * 8 || bit % 5 != 0) return;
        INFO("bit " << bit);
        auto server = test::ServerEnd(script.server_in(ServerState::accepting), script.world().server_vault,
                                      script.world().random);
        server.keeper = &script.world().keeper;
        server.receive(test::framed(changed), kStart);
        REQUIRE(server.closed.has_value());
        REQUIRE_FALSE(server.session.has_value());
    });
}

TEST_CASE("a server key or client key of low order inside a correct box is refused", "[fsm]") {
    Script script;
    const auto& world = script.world();
    const auto keys = test::Script::client_keys();
    // The server's long-term secret, in the hands of a server that means harm.
    const auto server_secret = test::secret_of<crypto::LongTermSecret>(test::secret_bytes(1));
    REQUIRE(*public_key_of(server_secret) == world.server_vault.key);
    const auto shared = *agree(server_secret, keys.public_key);
    const ByteArray<packets::kCookieBodySize> weak{};  // ES of order 1
    packets::SealedCookie cookie{test::nonce_number(99), {}};
    crypto::seal(shared, crypto::Nonce::make(crypto::LongPurpose::cookie, cookie.nonce), weak,
                 cookie.box.bytes);
    const auto at_client = client_gets(script, ClientState::initiating, arrived(cookie));
    CHECK(std::get<action::Close>(at_client[0]).why.is(crypto::Errc::weak_key));

    const auto session = *agree(keys.secret, test::Script::server_keys().public_key);
    auto vouch = script.vouch();
    const ByteArray<packets::kVouchBodySize> weak_client{};
    crypto::seal(
        session,
        crypto::Nonce::make(crypto::ShortPurpose::initiate, packets::number_bytes(packets::kVouchNumber)),
        weak_client, vouch.box.bytes);
    auto machine = script.server_in(ServerState::accepting);
    (void)machine.handle(arrived(vouch), kStart);
    const auto at_server = machine.handle(script.event(EventKind::cookie_redeemed), kStart);
    CHECK(std::get<action::Close>(at_server[0]).why.is(crypto::Errc::weak_key));
}

}  // namespace
}  // namespace curvegate::handshake::curve_tun
