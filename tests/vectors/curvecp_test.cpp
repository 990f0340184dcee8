#include "support/curvecp.hpp"

#include <boost/json.hpp>

#include <catch2/catch.hpp>

#include <fstream>

/// Sessions that the reference programs of CurveCP had with each other, with every secret recorded: rebuilt
/// byte for byte by our machines and sessions, and taken in by them; and datagrams that must change nothing.
namespace curvegate::test::udp {
namespace {

namespace json = boost::json;
using namespace std::chrono_literals;

json::object load() {
    std::ifstream in(std::string(CURVEGATE_TESTS_DIR) + "/vectors/curvecp_udp.json");
    const std::string text((std::istreambuf_iterator<char>(in)), {});
    return json::parse(text).as_object();
}
const json::object& vectors() {
    static const json::object all = load();
    return all;
}
const json::array& sessions() {
    return vectors().at("sessions").as_array();
}

std::string text_at(const json::object& object, std::string_view key) {
    return std::string(object.at(key).as_string());
}
template <std::size_t N>
ByteArray<N> array_at(const json::object& object, std::string_view key) {
    return unhex_array<N>(text_at(object, key));
}

/// One recorded datagram.
struct Datagram {
    explicit Datagram(const json::object& from)
        : fields(from.at("fields").as_object()),
          bytes(unhex(text_at(from, "hex"))),
          kind(text_at(from, "magic").back()),
          to_server(text_at(from, "dir") == "client->server") {}

    const json::object& fields;
    Buffer bytes;
    char kind;  ///< H, K, I or M: the last letter of its magic
    bool to_server;

    [[nodiscard]] packets::Extensions extensions() const {
        return {{array_at<16>(fields, "server_ext")}, {array_at<16>(fields, "client_ext")}};
    }
    [[nodiscard]] crypto::PacketNumber number() const {
        return {load_le<std::uint64_t>(array_at<8>(fields, "nonce8"))};
    }
    [[nodiscard]] Buffer message() const { return unhex(text_at(fields, "message")); }
};

/// One recorded session, and from its secrets all that the machines are told.
struct Recording {
    explicit Recording(const json::object& from)
        : name(text_at(from, "name")), server_name(text_at(from, "server_name")), all(from) {
        for (const auto& item : from.at("packets").as_array()) datagrams.emplace_back(item.as_object());
    }

    std::string name;
    std::string server_name;
    const json::object& all;
    std::vector<Datagram> datagrams;

    [[nodiscard]] const json::object& secrets() const { return all.at("secrets").as_object(); }
    [[nodiscard]] ByteArray<32> secret(std::string_view key) const { return array_at<32>(secrets(), key); }
    [[nodiscard]] std::vector<const Datagram*> of_kind(char kind, bool to_server) const {
        std::vector<const Datagram*> out;
        for (const auto& one : datagrams) {
            if (one.kind == kind && one.to_server == to_server) out.push_back(&one);
        }
        return out;
    }
    [[nodiscard]] const Datagram& first_initiate() const { return *of_kind('I', true).front(); }

    [[nodiscard]] TestVault server_vault() const {
        return {vault::KeyRole::server, secret("server_long_sk")};
    }
    [[nodiscard]] TestVault client_vault() const {
        return {vault::KeyRole::client, secret("client_long_sk")};
    }
    [[nodiscard]] crypto::EphemeralKeyPair client_short() const {
        return key_pair_of(secret("client_short_sk"));
    }
    /// What the keeper would do with the recorded minute key, which stands for the one that it derives from
    /// its own and the binding (PROTOCOL 4.2).
    [[nodiscard]] crypto::CookieKey minute_key() const {
        return secret_of<crypto::CookieKey>(secret("minute_key"));
    }
    [[nodiscard]] event::CookieIssued issue(const Datagram& cookie_packet,
                                            const crypto::PublicKey& client_short) const {
        const auto own = key_pair_of(array_at<32>(cookie_packet.fields, "cookie_plain_server_short_sk"));
        const crypto::LongTermNonce nonce{array_at<16>(cookie_packet.fields, "cookie_nonce16")};
        wire::Cookie cookie;
        Writer out(cookie.bytes);
        out.put(nonce.bytes);
        seal_cookie(minute_key(), crypto::Nonce::make(crypto::LongPurpose::minute_key, nonce), client_short,
                    own.secret, out.claim<crypto::kCookieBoxSize>());
        return {own.public_key, cookie};
    }
    [[nodiscard]] Result<cookie::Redeemed> redeem(const wire::Cookie& cookie, bool used) const {
        Reader reader(cookie.bytes);
        const crypto::LongTermNonce nonce{to_array(reader.take<16>())};
        auto contents = open_cookie(minute_key(), crypto::Nonce::make(crypto::LongPurpose::minute_key, nonce),
                                    reader.take<crypto::kCookieBoxSize>());
        if (!contents) return fail(std::move(contents));
        return cookie::Redeemed{std::move(*contents), {}, used};
    }
};

template <class T>
T one(Actions&& actions) {
    REQUIRE(std::holds_alternative<T>(actions[0]));
    return std::move(std::get<T>(actions[0]));
}

packets::SealedHello parsed_hello(const Datagram& from) {
    return std::get<packets::SealedHello>(*packets::parse_to_server(from.bytes));
}

// ---- rebuilt ----

/// The server's answer to a Hello, compared with the recorded Cookie.
void rebuild_cookie(const Recording& from, const Datagram& hello, const Datagram& cookie) {
    auto vault = from.server_vault();
    vault.nonces.recorded = {{array_at<16>(cookie.fields, "nonce16")}};
    fsm::Server server(vault::KeySlot::server, {0});
    const auto issue =
        one<action::IssueCookie>(server.handle(event::HelloArrived{parsed_hello(hello)}, kStart));
    CHECK(issue.client_short == from.client_short().public_key);
    const auto issued = from.issue(cookie, issue.client_short);
    CHECK(hex(issued.cookie.bytes) == text_at(cookie.fields, "cookie"));
    CHECK(hex(issued.server_short.bytes()) == text_at(cookie.fields, "server_short_pk"));
    const auto ask = one<action::AskVault>(server.handle(issued, kStart));
    const auto answer = one<action::Send>(server.handle(event_of(vault.ask(ask.request)), kStart));
    CHECK(hex(answer.packet()) == hex(cookie.bytes));
}

/// The client up to its session, with every Hello compared. It takes the Cookie whose cookie its Initiates
/// carry.
action::Vouched run_client(const Recording& from) {
    auto vault = from.client_vault();
    CHECK(to_array(vault.key.bytes()) == from.secret("client_long_pk"));
    vault.nonces.recorded = {{array_at<16>(from.first_initiate().fields, "vouch_nonce16")}};
    const auto hellos = from.of_kind('H', true);
    const auto server = *crypto::PublicKey::parse(from.secret("server_long_pk"));
    fsm::Client client({server, hellos[0]->extensions(), *packets::encode_server_name(from.server_name)}, {},
                       kStart + 60s);
    auto hello =
        one<action::Send>(client.handle(event::Start{from.client_short(), hellos[0]->number()}, kStart));
    CHECK(hex(hello.packet()) == hex(hellos[0]->bytes));
    for (std::size_t i = 1; i < hellos.size(); ++i) {
        hello = one<action::Send>(client.handle(event::DeadlineReached{}, *client.next_deadline()));
        CHECK(hex(hello.packet()) == hex(hellos[i]->bytes));
    }
    for (const auto* cookie : from.of_kind('K', false)) {
        if (text_at(cookie->fields, "cookie") != text_at(from.first_initiate().fields, "cookie")) continue;
        const auto parsed = std::get<packets::SealedCookie>(*packets::parse_to_client(cookie->bytes));
        const auto ask = one<action::AskVault>(client.handle(event::CookieArrived{parsed}, kStart));
        const auto made = vault.ask(ask.request);
        CHECK(hex(std::get<vault::Vouch>(made).vouch) == text_at(from.first_initiate().fields, "vouch_box"));
        return one<action::Vouched>(client.handle(event_of(made), kStart));
    }
    throw std::logic_error("no Cookie for the recorded Initiate");
}

/// The server up to its session, which the recorded Initiate makes.
action::Established run_server(const Recording& from, const Datagram& initiate,
                               crypto::PacketNumber first_sent) {
    auto vault = from.server_vault();
    CHECK(to_array(vault.key.bytes()) == from.secret("server_long_pk"));
    fsm::Server server(vault::KeySlot::server, first_sent);
    const auto redeem = one<action::RedeemCookie>(server.handle(initiate_arrived(initiate.bytes), kStart));
    const auto ask = one<action::AskVault>(
        server.handle(event::CookieRedeemed{*from.redeem(redeem.cookie, false)}, kStart));
    const auto authorise = one<action::Authorise>(server.handle(event_of(vault.ask(ask.request)), kStart));
    CHECK(to_array(authorise.client.bytes()) == from.secret("client_long_pk"));
    CHECK(packets::decode_server_name(authorise.name) == from.server_name);
    (void)one<action::ClaimCookie>(server.handle(event::Authorised{}, kStart));
    return one<action::Established>(server.handle(event::CookieClaimed{}, kStart));
}

Buffer rebuilt(Session& session, const Introduction& introduction, const Datagram& from) {
    const auto message = from.message();
    return from.kind == 'I' ? sealed_initiate(session, introduction, message)
                            : sealed_message(session, message);
}
Result<session::curvecp::Opened> opened(Session& at, const Datagram& from, Buffer& packet) {
    return from.kind == 'I' ? at.open_initiate(from.number(), packet)
                            : at.open_message(from.number(), packet);
}

crypto::PacketNumber first_sent_by_server(const Recording& from) {
    const auto messages = from.of_kind('M', false);
    return messages.empty() ? crypto::PacketNumber{0} : messages.front()->number();
}

void replay(const Recording& from) {
    INFO("session " << from.name);
    const auto hellos = from.of_kind('H', true);
    for (const auto* cookie : from.of_kind('K', false)) rebuild_cookie(from, *hellos.back(), *cookie);
    auto client = run_client(from);
    const Datagram* established_by = &from.first_initiate();
    auto server = run_server(from, *established_by, first_sent_by_server(from));
    CHECK(hex(Bytes(server.message).first(server.message_size)) == hex(established_by->message()));

    for (const auto& datagram : from.datagrams) {
        if (datagram.kind == 'H' || datagram.kind == 'K') continue;
        INFO((datagram.to_server ? "to the server: " : "to the client: ") << datagram.number().value);
        auto packet =
            rebuilt(datagram.to_server ? client.session : server.session, client.introduction, datagram);
        CHECK(hex(packet) == hex(datagram.bytes));
        auto& receiver = datagram.to_server ? server.session : client.session;
        if (&datagram != established_by) {
            const auto message = opened(receiver, datagram, packet);
            REQUIRE(message.has_value());
            CHECK(hex(message->message) == hex(datagram.message()));
            CHECK(message->newest);
        }
        auto repeated = datagram.bytes;
        const auto again = opened(receiver, datagram, repeated);
        REQUIRE_FALSE(again.has_value());
        CHECK(again.error().is(session::Errc::wrong_number));
        CHECK(repeated == datagram.bytes);
    }
}

TEST_CASE("recorded sessions of the reference are rebuilt byte for byte and taken in", "[vectors][curvecp]") {
    REQUIRE(sessions().size() == 10);
    std::size_t datagrams = 0;
    for (const auto& session : sessions()) {
        const Recording recording(session.as_object());
        datagrams += recording.datagrams.size();
        replay(recording);
    }
    CHECK(datagrams == 205);
}

TEST_CASE("each recorded Initiate makes the same session", "[vectors][curvecp]") {
    for (const auto& item : sessions()) {
        const Recording recording(item.as_object());
        for (const auto* initiate : recording.of_kind('I', true)) {
            const auto server = run_server(recording, *initiate, {0});
            CHECK(hex(Bytes(server.message).first(server.message_size)) == hex(initiate->message()));
            CHECK(server.session.extensions() == initiate->extensions());
        }
    }
}

TEST_CASE("the reference's shared keys are those that we agree on", "[vectors][curvecp]") {
    const auto text = [](const crypto::SharedKey& key) { return hex(crypto::SecretBytes::of(key)); };
    for (const auto& item : sessions()) {
        const Recording recording(item.as_object());
        const auto& secrets = recording.secrets();
        const auto server = secret_of<crypto::LongTermSecret>(recording.secret("server_long_sk"));
        const auto client_key = *crypto::PublicKey::parse(recording.secret("client_long_pk"));
        const auto client_short = recording.client_short();
        const auto server_short = key_pair_of(recording.secret("server_short_sk"));
        CHECK(hex(client_short.public_key.bytes()) == text_at(secrets, "client_short_pk"));
        CHECK(hex(server_short.public_key.bytes()) == text_at(secrets, "server_short_pk"));
        CHECK(text(*agree(server, client_short.public_key)) == text_at(secrets, "k_clientshort_serverlong"));
        CHECK(text(*agree(server, client_key)) == text_at(secrets, "k_clientlong_serverlong"));
        CHECK(text(*agree(client_short.secret, server_short.public_key)) ==
              text_at(secrets, "k_clientshort_servershort"));
    }
}

TEST_CASE("the reference's server names are encoded as ours", "[vectors][curvecp]") {
    for (const auto& item : sessions()) {
        const auto& session = item.as_object();
        const auto name = packets::encode_server_name(text_at(session, "server_name"));
        REQUIRE(name.has_value());
        CHECK(hex(name->bytes) == text_at(session, "server_name_encoded"));
    }
}

// ---- what must be dropped ----

/// A server with the recorded secrets, as its actor drives it: a machine for each packet that finds no
/// session.
class RecordedServer {
  public:
    explicit RecordedServer(const Recording& from)
        : from_(&from), vault_(from.server_vault()), extension_(from.datagrams[0].extensions().server) {}

    /// Did the packet do anything: an answer, a session, a message?
    bool takes(Buffer packet) {
        const auto parsed = packets::parse_to_server(packet);
        if (!parsed) return false;
        return std::visit([&](const auto& header) { return takes(header, packet); }, *parsed);
    }

  private:
    bool takes(const packets::SealedHello& hello, Buffer&) {
        if (hello.extensions.server != extension_) return false;
        fsm::Server machine(vault::KeySlot::server, {0});
        const auto issue = one<action::IssueCookie>(machine.handle(event::HelloArrived{hello}, kStart));
        const auto issued = from_->issue(*from_->of_kind('K', false).front(), issue.client_short);
        const auto ask = one<action::AskVault>(machine.handle(issued, kStart));
        return std::holds_alternative<action::Send>(
            machine.handle(event_of(vault_.ask(ask.request)), kStart)[0]);
    }
    bool takes(const packets::InitiateHeader& header, Buffer& packet) {
        if (header.extensions.server != extension_) return false;
        if (session_ && session_->client_short() == header.client_short)
            return session_->open_initiate(header.number, packet).has_value();
        fsm::Server machine(vault::KeySlot::server, {0});
        (void)machine.handle(event::InitiateArrived{header, packet}, kStart);
        auto redeemed = from_->redeem(header.cookie, claimed_);
        if (!redeemed) return false;
        auto ask = machine.handle(event::CookieRedeemed{std::move(*redeemed)}, kStart);
        if (!std::holds_alternative<action::AskVault>(ask[0])) return false;
        (void)machine.handle(event_of(vault_.ask(std::get<action::AskVault>(ask[0]).request)), kStart);
        (void)machine.handle(event::Authorised{}, kStart);
        if (machine.state() != fsm::ServerState::claiming) return false;
        claimed_ = true;
        session_ = one<action::Established>(machine.handle(event::CookieClaimed{}, kStart)).session;
        return true;
    }
    bool takes(const packets::ClientMessageHeader& header, Buffer& packet) {
        if (!session_ || header.extensions.server != extension_) return false;
        return session_->client_short() == header.client_short &&
               session_->open_message(header.number, packet).has_value();
    }

    const Recording* from_;
    TestVault vault_;
    packets::HostExtension extension_;
    std::optional<Session> session_;
    bool claimed_ = false;
};

/// The same for the client, which has said its Hello.
class RecordedClient {
  public:
    explicit RecordedClient(const Recording& from)
        : vault_(from.client_vault()),
          machine_({*crypto::PublicKey::parse(from.secret("server_long_pk")), from.datagrams[0].extensions(),
                    *packets::encode_server_name(from.server_name)},
                   {}, kStart + 60s) {
        (void)machine_.handle(event::Start{from.client_short(), from.datagrams[0].number()}, kStart);
    }

    bool takes(Buffer packet) {
        const auto parsed = packets::parse_to_client(packet);
        if (!parsed) return false;
        if (const auto* header = std::get_if<packets::ServerMessageHeader>(&*parsed)) {
            return session_ && session_->extensions() == header->extensions &&
                   session_->open_message(header->number, packet).has_value();
        }
        const auto before = machine_.state();
        const auto deadline = machine_.next_deadline();
        const auto ask =
            machine_.handle(event::CookieArrived{std::get<packets::SealedCookie>(*parsed)}, kStart);
        if (const auto* question = std::get_if<action::AskVault>(&ask.front())) {
            session_ = one<action::Vouched>(machine_.handle(event_of(vault_.ask(question->request)), kStart))
                           .session;
            return true;
        }
        CHECK(std::holds_alternative<action::Drop>(ask[0]));
        CHECK(machine_.state() == before);
        CHECK(machine_.next_deadline() == deadline);
        return false;
    }

  private:
    TestVault vault_;
    fsm::Client machine_;
    std::optional<Session> session_;
};

template <class Receiver>
void check_drop(const Recording& from, const json::object& drop, Receiver&& receiver, bool to_server) {
    const auto after = drop.at("after_packets_processed").to_number<int>();
    const auto based_on = drop.at("based_on_packet").to_number<int>();
    for (int i = 0; i <= after; ++i) {
        const auto& datagram = from.datagrams[static_cast<std::size_t>(i)];
        if (datagram.to_server == to_server) REQUIRE(receiver.takes(datagram.bytes));
    }
    const auto bad = unhex(text_at(drop, "hex"));
    for (int i = 0; i < 3; ++i) CHECK_FALSE(receiver.takes(bad));
    for (std::size_t i = static_cast<std::size_t>(after) + 1; i < from.datagrams.size(); ++i) {
        const auto& datagram = from.datagrams[i];
        if (datagram.to_server == to_server) CHECK(receiver.takes(datagram.bytes));
    }
    CHECK(based_on <= after + 1);  // so the good original was among them
}

TEST_CASE("what the reference must drop is dropped, and the session goes on as recorded",
          "[vectors][curvecp]") {
    const auto& drops = vectors().at("must_drop").as_array();
    REQUIRE(drops.size() == 18);
    const Recording echo(sessions()[0].as_object());
    REQUIRE(echo.name == "echo");
    for (const auto& item : drops) {
        const auto& drop = item.as_object();
        INFO(text_at(drop, "why"));
        REQUIRE(text_at(drop, "session") == echo.name);
        if (text_at(drop, "receiver") == "server") {
            check_drop(echo, drop, RecordedServer(echo), true);
        } else {
            check_drop(echo, drop, RecordedClient(echo), false);
        }
    }
}

// The cookie is not our keeper's, so its Initiate is refused before the box is tried.
TEST_CASE("a recorded Initiate makes no session where another minute key lives", "[vectors][curvecp]") {
    World world;
    for (const auto& item : sessions()) {
        const Recording recording(item.as_object());
        auto server = server_end(world);
        REQUIRE(server.receive(recording.first_initiate().bytes, kStart));
        REQUIRE(server.closed.has_value());
        CHECK(server.closed->is(cookie::Errc::does_not_open));
    }
}

}  // namespace
}  // namespace curvegate::test::udp
