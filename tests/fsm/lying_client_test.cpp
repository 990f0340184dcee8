#include "support/liar.hpp"

#include <catch2/catch.hpp>

/// A client that may be let in, and lies in its vouch.
namespace curvegate::test {
namespace {

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

}  // namespace
}  // namespace curvegate::test
