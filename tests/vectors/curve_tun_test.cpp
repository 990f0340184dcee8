#include "support/ends.hpp"

#include <sodium.h>
#include <boost/json.hpp>

#include <catch2/catch.hpp>

#include <fstream>

/// Sessions that two processes of the original implementation had with each other, with every secret
/// recorded: rebuilt byte for byte, and taken in by our ends in the order in which they crossed the wire.
namespace curvegate::test {
namespace {

namespace json = boost::json;

json::object load() {
    std::ifstream in(std::string(CURVEGATE_TESTS_DIR) + "/vectors/curve_tun_v1.json");
    const std::string text((std::istreambuf_iterator<char>(in)), {});
    return json::parse(text).as_object();
}
const json::object& vectors() {
    static const json::object all = load();
    return all;
}

std::string text_at(const json::object& object, std::string_view key) {
    return std::string(object.at(key).as_string());
}
Buffer bytes_at(const json::object& object, std::string_view key) {
    return unhex(std::string(object.at(key).as_object().at("hex").as_string()));
}
template <std::size_t N>
ByteArray<N> array_at(const json::object& object, std::string_view key) {
    return unhex_array<N>(text_at(object, key));
}

/// A recorded value: all of its bytes, or where it is long its length, digest and ends.
bool is_recorded(const json::object& packet, std::string_view key, Bytes actual) {
    const auto& value = packet.at(key).as_object();
    if (value.at("length").to_number<std::size_t>() != actual.size()) return false;
    if (const auto* all = value.if_contains("hex")) return all->as_string() == hex(actual);
    ByteArray<crypto_hash_sha256_BYTES> digest{};
    ::crypto_hash_sha256(digest.data(), actual.data(), actual.size());
    return text_at(value, "sha256") == hex(digest) && text_at(value, "first64") == hex(actual.first(64)) &&
           text_at(value, "last64") == hex(actual.last(64));
}

/// One recorded session, and from its secrets all that the machines are told.
struct Recording {
    explicit Recording(const json::object& from) : session(from) {}

    const json::object& session;

    [[nodiscard]] const json::object& part(std::string_view key) const { return session.at(key).as_object(); }
    [[nodiscard]] ByteArray<32> secret(std::string_view kind, std::string_view side) const {
        return array_at<32>(part(kind).at(side).as_object(), "secret");
    }
    [[nodiscard]] ByteArray<32> public_key(std::string_view kind, std::string_view side) const {
        return array_at<32>(part(kind).at(side).as_object(), "public");
    }
    [[nodiscard]] crypto::LongTermNonce nonce(std::string_view side) const {
        return {array_at<16>(part(side), "safe_nonce")};
    }
    [[nodiscard]] Buffer packet(std::string_view kind) const { return bytes_at(part(kind), "packet"); }

    [[nodiscard]] crypto::EphemeralKeyPair short_keys(std::string_view side) const {
        auto keys = key_pair_of(secret("ephemeral_keys", side));
        REQUIRE(to_array(keys.public_key.bytes()) == public_key("ephemeral_keys", side));
        return keys;
    }
    /// K under the recorded minute key, which the keeper would have derived (PROTOCOL 4.2).
    [[nodiscard]] packets::Cookie cookie() const {
        const auto key = secret_of<crypto::CookieKey>(array_at<32>(session, "minute_key"));
        const auto own = short_keys("server");
        packets::Cookie out;
        Writer writer(out.bytes);
        writer.put(nonce("server_safe_nonce").bytes);
        seal_cookie(key, crypto::Nonce::make(crypto::LongPurpose::minute_key, nonce("server_safe_nonce")),
                    short_keys("client").public_key, own.secret, writer.claim<crypto::kCookieBoxSize>());
        return out;
    }
    [[nodiscard]] crypto::CookieContents redeemed(const packets::Cookie& from) const {
        const auto key = secret_of<crypto::CookieKey>(array_at<32>(session, "minute_key"));
        Reader reader(from.bytes);
        const crypto::LongTermNonce sealed_under{to_array(reader.take<16>())};
        return *open_cookie(key, crypto::Nonce::make(crypto::LongPurpose::minute_key, sealed_under),
                            reader.take<crypto::kCookieBoxSize>());
    }
};

template <class T>
const T& one(const Actions& actions) {
    REQUIRE(std::holds_alternative<T>(actions[0]));
    return std::get<T>(actions[0]);
}

/// The recorded server's side: gives its session, having checked the cookie packet.
action::Established run_server(const Recording& from) {
    TestVault vault(vault::KeyRole::server, from.secret("long_term_keys", "server"));
    CHECK(to_array(vault.key.bytes()) == from.public_key("long_term_keys", "server"));
    vault.nonces.recorded = {from.nonce("server_safe_nonce")};
    fsm::Server server(vault::KeySlot::server, {}, kStart);

    const auto issue = server.handle(fsm::arrived(*packets::parse_packet(from.packet("hello"))), kStart);
    CHECK(one<action::IssueCookie>(issue).client_short == from.short_keys("client").public_key);
    const auto cookie = from.cookie();
    CHECK(hex(cookie.bytes) == hex(bytes_at(from.part("cookie"), "cookie_value")));
    const auto ask = server.handle(event::CookieIssued{from.short_keys("server").public_key, cookie}, kStart);
    const auto answered = server.handle(event_of(vault.ask(one<action::AskVault>(ask).request)), kStart);
    CHECK(hex(one<action::Send>(answered).packet()) == hex(from.packet("cookie")));

    const auto redeem = server.handle(fsm::arrived(*packets::parse_packet(from.packet("vouch"))), kStart);
    const auto& came_back = one<action::RedeemCookie>(redeem).cookie;
    const auto check = server.handle(event::CookieRedeemed{{from.redeemed(came_back), {}, false}}, kStart);
    const auto authorise = server.handle(event_of(vault.ask(one<action::AskVault>(check).request)), kStart);
    CHECK(to_array(one<action::Authorise>(authorise).client.bytes()) ==
          from.public_key("long_term_keys", "client"));
    auto done = server.handle(event::Authorised{}, kStart);
    return std::move(std::get<action::Established>(done[0]));
}

/// The recorded client's side, with its hello and vouch checked.
action::Established run_client(const Recording& from) {
    TestVault vault(vault::KeyRole::client, from.secret("long_term_keys", "client"));
    CHECK(to_array(vault.key.bytes()) == from.public_key("long_term_keys", "client"));
    vault.nonces.recorded = {from.nonce("client_safe_nonce")};
    const auto server = *crypto::PublicKey::parse(from.public_key("long_term_keys", "server"));
    fsm::Client client(server, {}, kStart + std::chrono::seconds(10));

    const auto hello = client.handle(event::Start{from.short_keys("client")}, kStart);
    CHECK(hex(one<action::Send>(hello).packet()) == hex(from.packet("hello")));
    const auto ask = client.handle(fsm::arrived(*packets::parse_packet(from.packet("cookie"))), kStart);
    const auto made = vault.ask(one<action::AskVault>(ask).request);
    CHECK(hex(std::get<vault::Vouch>(made).vouch) ==
          hex(bytes_at(from.part("vouch").at("inner_vouch").as_object(), "box")));
    const auto vouch = client.handle(event_of(made), kStart);
    CHECK(hex(one<action::Send>(vouch).packet()) == hex(from.packet("vouch")));
    auto done = client.handle(event::Written{}, kStart);
    return std::move(std::get<action::Established>(done[0]));
}

Buffer plaintext_of(const json::object& message) {
    if (text_at(message.at("plaintext_source").as_object(), "rule") == "literal")
        return bytes_at(message, "plaintext");
    return pattern(message.at("plaintext").as_object().at("length").to_number<std::size_t>());
}

void check_total(const Recording& recording, std::string_view direction, const Buffer& written) {
    const auto& total = recording.part("stream_totals").at(direction).as_object();
    ByteArray<crypto_hash_sha256_BYTES> digest{};
    ::crypto_hash_sha256(digest.data(), written.data(), written.size());
    CHECK(total.at("length").to_number<std::size_t>() == written.size());
    CHECK(text_at(total, "sha256") == hex(digest));
}

void append(Buffer& to, const Buffer& bytes) {
    to.insert(to.end(), bytes.begin(), bytes.end());
}

void replay(const json::object& session) {
    INFO(session.at("name").as_string().c_str());
    const Recording recording(session);
    auto server = run_server(recording);
    auto client = run_client(recording);
    CHECK(to_array(server.peer.bytes()) == recording.public_key("long_term_keys", "client"));
    CHECK(to_array(client.peer.bytes()) == recording.public_key("long_term_keys", "server"));

    Buffer up = framed(recording.packet("hello"));
    append(up, framed(recording.packet("vouch")));
    Buffer down = framed(recording.packet("cookie"));
    for (const auto& item : session.at("messages").as_array()) {
        const auto& message = item.as_object();
        const bool upwards = text_at(message, "direction") == "client_to_server";
        const auto text = plaintext_of(message);
        INFO("message " << message.at("wire_index").to_number<int>() << " of " << text.size() << " bytes");
        CHECK(is_recorded(message, "plaintext", text));
        Buffer frame(session::curve_tun::kFrameOverhead);
        append(frame, text);
        REQUIRE((upwards ? client : server).session.seal_frame(frame).has_value());
        CHECK(is_recorded(message, "frame", frame));
        CHECK(is_recorded(message, "packet", Bytes(frame).subspan(2)));
        append(upwards ? up : down, frame);
        const auto payload = (upwards ? server : client).session.open_packet(MutableBytes(frame).subspan(2));
        REQUIRE(payload.has_value());
        CHECK(std::ranges::equal(*payload, text));
    }
    check_total(recording, "client_to_server", up);
    check_total(recording, "server_to_client", down);
}

TEST_CASE("recorded sessions of the original are rebuilt byte for byte and taken in", "[vectors]") {
    const auto& sessions = vectors().at("sessions").as_array();
    REQUIRE(sessions.size() == 3);
    for (const auto& session : sessions) replay(session.as_object());
}

TEST_CASE("the recorded shared keys are those that we agree on", "[vectors]") {
    for (const auto& item : vectors().at("sessions").as_array()) {
        const Recording recording(item.as_object());
        const auto& keys = recording.part("shared_keys");
        const auto client = recording.short_keys("client");
        const auto server = recording.short_keys("server");
        const auto server_secret =
            secret_of<crypto::LongTermSecret>(recording.secret("long_term_keys", "server"));
        const auto client_key = *crypto::PublicKey::parse(recording.public_key("long_term_keys", "client"));
        const auto text = [](const crypto::SharedKey& key) { return hex(crypto::SecretBytes::of(key)); };
        CHECK(text(*agree(server_secret, client.public_key)) == text_at(keys, "ec_s"));
        CHECK(text(*agree(server_secret, client_key)) == text_at(keys, "c_s"));
        CHECK(text(*agree(client.secret, server.public_key)) == text_at(keys, "ec_es"));
    }
}

TEST_CASE("sizes and magics are those of the recording", "[vectors]") {
    const auto& limits = vectors().at("limits").as_object();
    const auto number = [&](std::string_view key) { return limits.at(key).to_number<std::size_t>(); };
    CHECK(number("max_packet") == packets::kMaxPacketSize);
    CHECK(number("message_overhead") == packets::kMessageOverhead);
    CHECK(number("max_message") == packets::kMaxMessageSize);
    CHECK(number("hello_packet") == packets::kHelloSize);
    CHECK(number("cookie_packet") == packets::kCookiePacketSize);
    CHECK(number("vouch_packet") == packets::kVouchSize);
    CHECK(number("first_message_counter") == packets::kFirstMessageNumber.value);
}

// A session recorded by somebody else, sent again: the server's keys and minute key still live.
TEST_CASE("a recorded vouch is refused on a connection that issued another cookie", "[vectors]") {
    const Recording recording(vectors().at("sessions").as_array().front().as_object());
    TestVault vault(vault::KeyRole::server, recording.secret("long_term_keys", "server"));
    SeededRandom random(1);
    auto keeper = *cookie::Keeper::create(pool(), random, kStart);
    ServerEnd server(fsm::Server(vault::KeySlot::server, {}, kStart), vault, random);
    server.keeper = &keeper;
    server.receive(framed(recording.packet("hello")), kStart);
    REQUIRE(server.state() == fsm::ServerState::accepting);
    server.receive(framed(recording.packet("vouch")), kStart);
    REQUIRE(server.closed.has_value());
    CHECK(server.closed->is(handshake::Errc::cookie_not_ours));
}

}  // namespace
}  // namespace curvegate::test
