#include "os/secret_pages.hpp"
#include "support/curvecp.hpp"

#include <catch2/catch.hpp>

#include <set>

/// Every reason for which a handshake of CurveCP can end, or a packet be dropped, each brought about.
namespace curvegate::handshake::curvecp {
namespace {

using namespace std::chrono_literals;
using test::Buffer;
using test::kStart;
using test::udp::Script;
namespace packets = curvegate::wire::curvecp;

template <class Machine>
Actions gets(Machine machine, Event&& event, Instant now = kStart) {
    return machine.handle(std::move(event), now);
}
Actions server_gets(Script& script, ServerState in, Event&& event, Instant now = kStart) {
    return gets(script.server_in(in), std::move(event), now);
}
Actions client_gets(Script& script, ClientState in, Event&& event, Instant now = kStart) {
    return gets(script.client_in(in), std::move(event), now);
}
/// A server that waits for the keeper to open this Initiate's cookie.
Actions redeems(Script& script, const Buffer& initiate, event::CookieRedeemed&& redeemed) {
    auto machine = script.fresh_server();
    (void)machine.handle(test::udp::initiate_arrived(initiate), kStart);
    return machine.handle(std::move(redeemed), kStart);
}
event::CookieRedeemed redeemed(Script& script) {
    return {*script.world().keeper.redeem(script.cookie(), test::udp::kBinding, kStart)};
}

std::optional<Error> why_closed(const Actions& actions) {
    const auto* close = std::get_if<action::Close>(&actions.front());
    return close == nullptr ? std::nullopt : std::optional(close->why);
}
template <class E>
bool closes(const Actions& actions, E why) {
    const auto closed = why_closed(actions);
    return closed && closed->is(why);
}
template <class E>
bool drops(const Actions& actions, E why) {
    const auto* drop = std::get_if<action::Drop>(&actions.front());
    return drop != nullptr && drop->why.is(why);
}

Actions used_cookie(Script& script) {
    auto used = redeemed(script);
    used.used = true;
    return redeems(script, script.initiate(), std::move(used));
}
Actions cookie_of_another_client(Script& script) {
    const auto other = script.world().fresh_keys();
    return redeems(script, script.initiate(),
                   {{{other.public_key, Script::server_keys().secret}, {}, false}});
}
Actions changed_box(Script& script) {
    auto initiate = script.initiate();
    initiate.back() = static_cast<Byte>(initiate.back() ^ 1);
    return redeems(script, initiate, redeemed(script));
}
Actions no_memory_for_the_key(Script& script) {
    const auto pool = std::move(*crypto::SecretPool::create(os::secret_pages(), crypto::Locking::attempt, 1));
    test::SeededRandom random(1);
    auto keys = *crypto::EphemeralKeyPair::generate(*pool, random);
    std::vector<crypto::SharedKey> ballast;
    while (auto one = crypto::SharedKey::random(*pool, random)) ballast.push_back(std::move(*one));
    return gets(script.fresh_client(), event::Start{std::move(keys), {1}});
}

struct Case {
    Errc code;
    std::function<Actions(Script&)> provoke;
};
std::vector<Case> server_cases() {
    using State = ServerState;
    return {
        {Errc::unexpected_packet,
         [](Script& s) { return server_gets(s, State::ready, s.event(EventKind::cookie)); }},
        {Errc::cookie_used, used_cookie},
        {Errc::cookie_mismatch, cookie_of_another_client},
        {Errc::vouch_does_not_open, changed_box},
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
        {Errc::vault_unavailable,
         [](Script& s) { return server_gets(s, State::answering, event::VaultLost{"it ended"}); }},
        {Errc::no_secret_memory,
         [](Script& s) {
             return server_gets(s, State::issuing, event::NotPossible{crypto::Errc::secrets_full});
         }},
        {Errc::stopped, [](Script& s) { return server_gets(s, State::claiming, event::Stop{}); }},
        {Errc::bug, [](Script& s) { return server_gets(s, State::ready, event::CookieClaimed{}); }},
    };
}
std::vector<Case> client_cases() {
    using State = ClientState;
    return {
        {Errc::vouch_refused,
         [](Script& s) {
             return client_gets(s, State::vouching, event::VaultRefused{vault::Status::vouch_is_wrong});
         }},
        {Errc::connect_timeout,
         [](Script& s) { return client_gets(s, State::initiating, event::DeadlineReached{}, kStart + 10s); }},
        {Errc::vault_timeout,
         [](Script& s) { return client_gets(s, State::vouching, event::DeadlineReached{}, kStart + 5s); }},
        {Errc::vault_unavailable,
         [](Script& s) { return client_gets(s, State::vouching, event::VaultLost{"it ended"}); }},
        {Errc::no_secret_memory, no_memory_for_the_key},
        {Errc::stopped, [](Script& s) { return client_gets(s, State::connected, event::Stop{}); }},
        {Errc::bug, [](Script& s) { return client_gets(s, State::vouching, event::Authorised{}); }},
    };
}

TEST_CASE("every reason for an end of CurveCP has an event that brings it about", "[fsm][curvecp]") {
    Script script;
    std::set<Errc> seen;
    auto all = server_cases();
    const auto clients = client_cases();
    all.insert(all.end(), clients.begin(), clients.end());
    for (const auto& one : all) {
        INFO(describe(one.code));
        const auto why = why_closed(one.provoke(script));
        REQUIRE(why.has_value());
        CHECK(why->is(one.code));
        seen.insert(one.code);
    }
    // The others are of a wire with connections; a Cookie that does not open is dropped (below).
    for (const auto code : {Errc::wrong_number, Errc::cookie_not_ours, Errc::cookie_does_not_open,
                            Errc::peer_closed, Errc::hello_timeout, Errc::vouch_timeout}) {
        INFO(describe(code));
        CHECK(seen.insert(code).second);
    }
    CHECK(seen.size() == static_cast<std::size_t>(Errc::bug));
}

TEST_CASE("reasons of the layers below are handed on", "[fsm][curvecp]") {
    Script script;
    CHECK(closes(
        server_gets(script, ServerState::issuing, event::CookieRefused{cookie::Errc::indices_exhausted}),
        cookie::Errc::indices_exhausted));
    CHECK(
        closes(server_gets(script, ServerState::redeeming, event::CookieRefused{cookie::Errc::does_not_open}),
               cookie::Errc::does_not_open));
    CHECK(closes(server_gets(script, ServerState::answering, event::VaultRefused{vault::Status::weak_key}),
                 crypto::Errc::weak_key));
    CHECK(closes(gets(script.fresh_client(), event::Start{Script::client_keys(), {~std::uint64_t{0}}}),
                 session::Errc::numbers_exhausted));
}

TEST_CASE("a client whose numbers end while it repeats its Hello closes", "[fsm][curvecp]") {
    Script script;
    auto client = script.fresh_client();
    const auto first = client.handle(event::Start{Script::client_keys(), {~std::uint64_t{0} - 1}}, kStart);
    CHECK(std::holds_alternative<action::Send>(first[0]));
    CHECK(closes(client.handle(event::DeadlineReached{}, kStart + 250ms), session::Errc::numbers_exhausted));
}

TEST_CASE("the client of CurveCP tells the vault's delay from the server's", "[fsm][curvecp]") {
    Script script;
    const auto at = [&](Instant now) {
        return client_gets(script, ClientState::vouching, event::DeadlineReached{}, now);
    };
    CHECK(closes(at(kStart + 5s), Errc::vault_timeout));
    CHECK(closes(at(kStart + test::udp::kLimit), Errc::connect_timeout));
}

// ---- the client drops what may be a stranger's, and goes on ----

/// The client still takes the good Cookie.
bool goes_on(Client& client, const Script& script) {
    if (client.state() != ClientState::initiating) return false;
    const auto actions = client.handle(event::CookieArrived{script.cookie_packet()}, kStart);
    return std::holds_alternative<action::AskVault>(actions[0]) && client.state() == ClientState::vouching;
}

TEST_CASE("a Cookie with any bit changed is dropped, and the good one is taken after", "[fsm][curvecp]") {
    Script script;
    ByteArray<packets::kCookiePacketSize> packet{};
    serialise(script.cookie_packet(), packet);
    auto client = script.client_in(ClientState::initiating);
    const auto deadline = client.next_deadline();
    test::each_bit_flip(packet, [&](const Buffer& changed, std::size_t bit) {
        if (bit < packets::kMagicSize * 8) return;  // the parser's business
        INFO("bit " << bit);
        const auto parsed = std::get<packets::SealedCookie>(*packets::parse_to_client(changed));
        const auto actions = client.handle(event::CookieArrived{parsed}, kStart);
        if (bit < packets::kAddressing * 8) {
            REQUIRE(drops(actions, wire::Errc::wrong_extension));
        } else {
            REQUIRE(drops(actions, Errc::cookie_does_not_open));
        }
        REQUIRE(client.state() == ClientState::initiating);
        REQUIRE(client.next_deadline() == deadline);
    });
    CHECK(goes_on(client, script));
}

TEST_CASE("a Cookie for another client, or of another server, is dropped", "[fsm][curvecp]") {
    Script script;
    auto& world = script.world();
    auto client = script.fresh_client();
    (void)client.handle(event::Start{world.fresh_keys(), {5}}, kStart);
    CHECK(drops(client.handle(event::CookieArrived{script.cookie_packet()}, kStart),
                Errc::cookie_does_not_open));
    const auto stranger = test::secret_of<crypto::LongTermSecret>(test::secret_bytes(77));
    packets::SealedCookie forged{test::udp::kExtensions, test::nonce_number(3), {}};
    crypto::seal(*agree(stranger, Script::client_keys().public_key),
                 crypto::Nonce::make(crypto::LongPurpose::cookie, forged.nonce),
                 ByteArray<wire::kCookieBodySize>{9}, forged.box.bytes);
    auto other = script.client_in(ClientState::initiating);
    CHECK(drops(other.handle(event::CookieArrived{forged}, kStart), Errc::cookie_does_not_open));
    CHECK(goes_on(other, script));
}

TEST_CASE("a Cookie whose correct box holds a weak server key is dropped", "[fsm][curvecp]") {
    Script script;
    const auto server_secret = test::secret_of<crypto::LongTermSecret>(test::secret_bytes(1));
    REQUIRE(*public_key_of(server_secret) == script.world().server_vault.key);
    packets::SealedCookie cookie{test::udp::kExtensions, test::nonce_number(99), {}};
    crypto::seal(*agree(server_secret, Script::client_keys().public_key),
                 crypto::Nonce::make(crypto::LongPurpose::cookie, cookie.nonce),
                 ByteArray<wire::kCookieBodySize>{}, cookie.box.bytes);
    auto client = script.client_in(ClientState::initiating);
    CHECK(drops(client.handle(event::CookieArrived{cookie}, kStart), crypto::Errc::weak_key));
    CHECK(goes_on(client, script));
}

TEST_CASE("a vault that vouches with a weak key ends the client", "[fsm][curvecp]") {
    Script script;
    CHECK(closes(client_gets(script, ClientState::vouching, event::VouchMade{vault::Vouch{}}),
                 crypto::Errc::weak_key));
}

// ---- the server and what is inside a correct box ----

/// Runs the whole server over an Initiate.
std::optional<Error> refusal(Script& script, const Buffer& initiate) {
    auto server = test::udp::server_end(script.world());
    if (!server.receive(initiate, kStart)) return Error(wire::Errc::wrong_magic);
    CHECK(server.session.has_value() != server.closed.has_value());
    return server.closed;
}

TEST_CASE("an Initiate with any bit changed makes no session, and the good one does after",
          "[fsm][curvecp]") {
    Script script;
    test::each_bit_flip(script.initiate(), [&](const Buffer& changed, std::size_t bit) {
        const bool clear = bit < packets::kInitiateHeader * 8;
        // The extensions are the socket's business; of the rest each is a machine with a key agreement.
        if (bit < packets::kAddressing * 8 || (!clear && bit % 7 != 0)) return;
        INFO("bit " << bit);
        const auto why = refusal(script, changed);
        REQUIRE(why.has_value());
        if (bit < (packets::kAddressing + 32) * 8) {
            REQUIRE(why->is(Errc::cookie_mismatch));
        } else if (bit < (packets::kInitiateHeader - 8) * 8) {
            REQUIRE(why->is(cookie::Errc::does_not_open));
        } else {
            REQUIRE(why->is(Errc::vouch_does_not_open));
        }
    });
    CHECK_FALSE(refusal(script, script.initiate()).has_value());
}

TEST_CASE("a vouch with any bit changed inside a correct box makes no session", "[fsm][curvecp]") {
    Script script;
    ByteArray<wire::kVouchBodySize> body{};
    serialise(script.introduction().vouch, body);
    test::each_bit_flip(body, [&](const Buffer& changed, std::size_t bit) {
        INFO("bit " << bit);
        auto introduction = script.introduction();
        const auto parsed = wire::parse_vouch_body(Bytes(changed).first<wire::kVouchBodySize>());
        if (!parsed) return;  // the high bit of C: such a key cannot be written down (below)
        introduction.vouch = *parsed;
        const auto why = refusal(script, script.initiate_with(introduction));
        REQUIRE(why.has_value());
        REQUIRE(why->is(Errc::vouch_refused));
    });
    CHECK_FALSE(refusal(script, script.initiate()).has_value());
}

TEST_CASE("a weak client key inside a correct box is refused", "[fsm][curvecp]") {
    Script script;
    for (const bool high_bit : {false, true}) {
        auto initiate = script.initiate();
        const auto shared = *agree(Script::client_keys().secret, Script::server_keys().public_key);
        const auto header = std::get<packets::InitiateHeader>(*packets::parse_to_server(initiate));
        const auto nonce =
            crypto::Nonce::make(crypto::ShortPurpose::initiate, packets::number_bytes(header.number));
        const auto box = MutableBytes(initiate).subspan(packets::kInitiateHeader);
        REQUIRE(crypto::open_in_place(shared, nonce, box).has_value());
        const auto client = box.subspan<crypto::kBoxOverhead, 32>();
        if (!high_bit) std::ranges::fill(client, Byte{0});
        if (high_bit) client.back() = static_cast<Byte>(client.back() | 0x80);
        crypto::seal_in_place(shared, nonce, box);
        const auto why = refusal(script, initiate);
        REQUIRE(why.has_value());
        CHECK(why->is(crypto::Errc::weak_key));
    }
}

TEST_CASE("a Hello with any bit changed gets no answer", "[fsm][curvecp]") {
    Script script;
    ByteArray<packets::kHelloSize> packet{};
    serialise(script.hello(), packet);
    test::each_bit_flip(packet, [&](const Buffer& changed, std::size_t bit) {
        const bool unread = bit >= 72 * 8 && bit < 136 * 8;
        if (bit < packets::kAddressing * 8 || unread || bit % 3 != 0) return;
        INFO("bit " << bit);
        auto server = test::udp::server_end(script.world());
        if (!server.receive(changed, kStart)) return;
        REQUIRE(server.sent.empty());
        REQUIRE(server.closed.has_value());
    });
    auto server = test::udp::server_end(script.world());
    REQUIRE(server.receive(test::copy_of(packet), kStart));
    CHECK(server.sent.size() == 1);
}

}  // namespace
}  // namespace curvegate::handshake::curvecp
