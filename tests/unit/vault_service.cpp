#include "crypto/box.hpp"
#include "os/secret_pages.hpp"
#include "tests/unit/vault_recorded.hpp"
#include "tests/unit/vault_support.hpp"
#include "vault/service.hpp"

#include <deque>
#include <functional>
#include <vector>

namespace curvegate::vault {
namespace {

using test::hex;
using test::key_of;
namespace recorded = test::recorded;

/// Gives recorded nonces, then none.
class RecordedNonces final : public NonceSource {
  public:
    std::deque<crypto::LongTermNonce> nonces;
    Result<crypto::LongTermNonce> next() override {
        if (nonces.empty()) return fail(CounterErrc::cannot_write);
        const auto nonce = nonces.front();
        nonces.pop_front();
        return nonce;
    }
};

class TrustList final : public ListedKeys {
  public:
    std::vector<crypto::PublicKey> trusted;
    std::vector<crypto::PublicKey> asked;
    bool is_listed(const crypto::PublicKey& key, WallTime) override {
        asked.push_back(key);
        return std::ranges::find(trusted, key) != trusted.end();
    }
};

/// A service with both keys and plenty of nonces, and what its peers would hold.
struct World {
    explicit World(LongTermKey own_server = key_of(KeyRole::server, 0x11),
                   LongTermKey own_client = key_of(KeyRole::client, 0x22))
        : server_public(own_server.public_key),
          client_public(own_client.public_key),
          service(Service::Key{std::move(own_server), &nonces}, Service::Key{std::move(own_client), &nonces},
                  servers) {
        for (Byte i = 0; i < 100; ++i)
            nonces.nonces.push_back({test::hex<16>("000102030405060708090a0b0c0d0e0f")});
        servers.trusted.push_back(far_server.public_key);
    }
    Reply ask(const RequestBody& body, Instant now = {}) {
        return service.handle({RequestId{77}, body}, now, WallTime{});
    }
    Status status(const RequestBody& body, Instant now = {}) {
        const auto reply = ask(body, now);
        CHECK(reply.id == RequestId{77});
        if (const auto* refused = std::get_if<Refused>(&reply.body)) return refused->status;
        return Status::ok;
    }

    RecordedNonces nonces;
    TrustList servers;
    LongTermKey far_server = key_of(KeyRole::server, 0x33);
    LongTermKey far_client = key_of(KeyRole::client, 0x44);
    crypto::EphemeralKeyPair client_short = test::short_keys(9);
    crypto::PublicKey server_public;
    crypto::PublicKey client_public;
    Service service;
};

ByteArray<32> bytes_of(const crypto::PublicKey& key) {
    return to_array(key.bytes());
}

/// A Hello to the world's server, of so many zeros (or other bytes).
AnswerHello hello_to(const World& world, Byte content = 0) {
    AnswerHello hello{KeySlot::server, bytes_of(world.client_short.public_key), {}, {}, {}};
    ByteArray<64> plain{};
    plain.back() = content;
    hello.payload.fill(0x5a);
    const auto shared = crypto::agree(world.client_short.secret, world.server_public).value();
    crypto::seal(shared, crypto::Nonce::make(crypto::ShortPurpose::hello, hello.number), plain, hello.box);
    return hello;
}

MakeVouch vouch_order(const World& world) {
    return {bytes_of(world.far_server.public_key), bytes_of(world.client_short.public_key)};
}

/// The vouch of a client, of far_client at first, for the world's server.
OpenVouch vouch_to(const World& world, const LongTermKey& client) {
    OpenVouch vouch{
        KeySlot::server, bytes_of(client.public_key), {}, {}, bytes_of(world.client_short.public_key)};
    vouch.nonce.bytes.fill(6);
    const auto shared = crypto::agree(client.secret, world.server_public).value();
    crypto::seal(shared, crypto::Nonce::make(crypto::LongPurpose::vouch, vouch.nonce),
                 world.client_short.public_key.bytes(), vouch.vouch);
    return vouch;
}
OpenVouch vouch_to(const World& world) {
    return vouch_to(world, world.far_client);
}

TEST_CASE("strangers with keys of their own do not push the shared keys of listed peers out") {
    World world;
    world.servers.trusted.push_back(world.far_client.public_key);
    REQUIRE(world.status(vouch_to(world)) == Status::ok);
    REQUIRE(world.servers.asked == std::vector{world.far_client.public_key});
    for (std::size_t i = 0; i < 2 * kKeptSharedKeys; ++i) {
        const auto stranger = key_of(KeyRole::client, static_cast<Byte>(0x60 + i));
        REQUIRE(world.status(vouch_to(world, stranger)) == Status::ok);
    }
    // Whose key is kept is not looked up again.
    world.servers.asked.clear();
    REQUIRE(world.status(vouch_to(world)) == Status::ok);
    CHECK(world.servers.asked.empty());
    const auto last = key_of(KeyRole::client, static_cast<Byte>(0x60 + 2 * kKeptSharedKeys - 1));
    REQUIRE(world.status(vouch_to(world, last)) == Status::ok);
    CHECK(world.servers.asked.empty());
}

TEST_CASE("kept shared keys give way in order: the longest unused, strangers before listed peers") {
    SharedKeys kept(2);
    const auto own = key_of(KeyRole::server, 0x11);
    const auto keep = [&](Byte fill, SharedKeys::Peer kind) {
        const auto peer = key_of(KeyRole::client, fill).public_key;
        kept.keep(peer, crypto::agree(own.secret, peer).value(), kind);
    };
    const auto has = [&](Byte fill) {
        return kept.find(key_of(KeyRole::client, fill).public_key) != nullptr;
    };
    keep(1, SharedKeys::Peer::stranger);
    keep(2, SharedKeys::Peer::stranger);
    REQUIRE(has(1));  // so that 2 was not used for longer
    keep(3, SharedKeys::Peer::listed);
    CHECK((has(1) && !has(2) && has(3)));
    keep(4, SharedKeys::Peer::stranger);
    CHECK((!has(1) && has(3) && has(4)));
    keep(5, SharedKeys::Peer::listed);
    CHECK((has(3) && !has(4) && has(5)));
    keep(6, SharedKeys::Peer::stranger);
    CHECK((has(3) && has(5) && !has(6)));
    keep(7, SharedKeys::Peer::listed);
    CHECK((!has(3) && has(5) && has(7)));
    CHECK(kept.size() == 2);
}

TEST_CASE("a vault without free memory for secrets says so, and no request that comes later fails for it") {
    World world;
    const auto hello = hello_to(world);
    const auto opened = vouch_to(world);
    std::vector<crypto::EphemeralKeyPair> all;
    test::CountingRandom random(3);
    while (auto pair = crypto::EphemeralKeyPair::generate(test::pool(), random))
        all.push_back(std::move(*pair));
    CHECK(world.status(hello) == Status::no_memory);
    CHECK(world.status(opened) == Status::no_memory);
    CHECK(world.status(vouch_order(world)) == Status::no_memory);
    all.clear();
    CHECK(world.status(hello) == Status::ok);
    CHECK(world.status(opened) == Status::ok);
    CHECK(world.status(vouch_order(world)) == Status::ok);
}

TEST_CASE("the vault answers the recorded Hello byte for byte") {
    World world(test::key_from(KeyRole::server, hex<32>(recorded::kServerSecret)));
    world.nonces.nonces = {{hex<16>(recorded::kCookieNonce)}};
    const AnswerHello hello{KeySlot::server,
                            hex<32>(recorded::kClientShort),
                            {},
                            hex<80>(recorded::kHelloBox),
                            hex<128>(recorded::kCookiePlain)};
    const auto reply = world.ask(hello);
    const auto* answer = std::get_if<HelloAnswer>(&reply.body);
    REQUIRE(answer != nullptr);
    CHECK(answer->nonce.bytes == hex<16>(recorded::kCookieNonce));
    CHECK(answer->box == hex<144>(recorded::kCookieBox));
}

TEST_CASE("the vault makes the recorded vouch byte for byte") {
    World world(key_of(KeyRole::server, 0x11),
                test::key_from(KeyRole::client, hex<32>(recorded::kClientSecret)));
    world.nonces.nonces = {{hex<16>(recorded::kVouchNonce)}};
    world.servers.trusted = {crypto::PublicKey::parse(hex<32>(recorded::kServerPublic)).value()};
    const auto reply =
        world.ask(MakeVouch{hex<32>(recorded::kServerPublic), hex<32>(recorded::kClientShort)});
    const auto* vouch = std::get_if<Vouch>(&reply.body);
    REQUIRE(vouch != nullptr);
    CHECK(vouch->client == hex<32>(recorded::kClientPublic));
    CHECK(vouch->nonce.bytes == hex<16>(recorded::kVouchNonce));
    CHECK(vouch->vouch == hex<48>(recorded::kVouchBox));
}

TEST_CASE("the vault opens the recorded vouch, the second time with the shared key that it kept") {
    World world(test::key_from(KeyRole::server, hex<32>(recorded::kServerSecret)));
    const OpenVouch vouch{KeySlot::server,
                          hex<32>(recorded::kClientPublic),
                          {hex<16>(recorded::kVouchNonce)},
                          hex<48>(recorded::kVouchBox),
                          hex<32>(recorded::kClientShort)};
    CHECK(world.status(vouch) == Status::ok);
    const auto secrets = test::pool().in_use();
    CHECK(world.status(vouch) == Status::ok);
    CHECK(test::pool().in_use() == secrets);
}

TEST_CASE("a key of one role never does the other's work") {
    struct Row {
        const char* name;
        std::function<RequestBody(const World&)> request;
        KeyRole role;
    };
    const std::vector<Row> rows = {
        {"answer_hello", [](const World& world) -> RequestBody { return hello_to(world); }, KeyRole::server},
        {"open_vouch", [](const World& world) -> RequestBody { return vouch_to(world); }, KeyRole::server},
        {"make_vouch", [](const World& world) -> RequestBody { return vouch_order(world); }, KeyRole::client},
    };
    for (const Row& row : rows) {
        INFO(row.name);
        World both;
        CHECK(both.status(row.request(both)) == Status::ok);
        // Only the other role's key is there.
        RecordedNonces nonces;
        nonces.nonces.resize(10);
        TrustList servers;
        servers.trusted.push_back(both.far_server.public_key);
        std::optional<Service::Key> server;
        std::optional<Service::Key> client;
        if (row.role == KeyRole::server) {
            client.emplace(Service::Key{key_of(KeyRole::client, 0x22), &nonces});
        } else {
            server.emplace(Service::Key{key_of(KeyRole::server, 0x11), &nonces});
        }
        Service other(std::move(server), std::move(client), servers);
        const auto reply = other.handle({RequestId{1}, row.request(both)}, {}, {});
        REQUIRE(std::holds_alternative<Refused>(reply.body));
        CHECK(std::get<Refused>(reply.body).status == Status::no_such_key);
    }
}

TEST_CASE("a server verb that names the client's slot is refused") {
    World world;
    auto hello = hello_to(world);
    hello.slot = KeySlot::client;
    CHECK(world.status(hello) == Status::no_such_key);
    auto vouch = vouch_to(world);
    vouch.slot = KeySlot::client;
    CHECK(world.status(vouch) == Status::no_such_key);
}

TEST_CASE("the public key of either slot may be asked for") {
    World world;
    for (const auto& [slot, key] :
         {std::pair(KeySlot::server, world.server_public), std::pair(KeySlot::client, world.client_public)}) {
        const auto reply = world.ask(GetPublicKey{slot});
        REQUIRE(std::holds_alternative<PublicKeyIs>(reply.body));
        CHECK(std::get<PublicKeyIs>(reply.body).key == bytes_of(key));
    }
    TrustList servers;
    Service empty(std::nullopt, std::nullopt, servers);
    const auto reply = empty.handle({RequestId{1}, GetPublicKey{KeySlot::server}}, {}, {});
    CHECK(std::get<Refused>(reply.body).status == Status::no_such_key);
}

TEST_CASE("a Hello's answer opens with the client's short-term key and holds the payload") {
    World world;
    const auto hello = hello_to(world);
    const auto reply = world.ask(hello);
    REQUIRE(std::holds_alternative<HelloAnswer>(reply.body));
    const auto& answer = std::get<HelloAnswer>(reply.body);
    const auto shared = crypto::agree(world.client_short.secret, world.server_public).value();
    ByteArray<kHelloPayloadSize> payload{};
    REQUIRE(crypto::open(shared, crypto::Nonce::make(crypto::LongPurpose::cookie, answer.nonce), answer.box,
                         payload));
    CHECK(payload == hello.payload);
}

TEST_CASE("a Hello with any bit of its box, number or key changed is refused, and uses up no nonce") {
    World world;
    const auto nonces = world.nonces.nonces.size();
    for (std::size_t bit = 0; bit < 8 * kHelloBoxSize; bit += 7) {
        auto hello = hello_to(world);
        hello.box[bit / 8] = static_cast<Byte>(hello.box[bit / 8] ^ (1U << (bit % 8)));
        CHECK(world.status(hello) == Status::box_does_not_open);
    }
    auto renumbered = hello_to(world);
    renumbered.number[7] = 1;
    CHECK(world.status(renumbered) == Status::box_does_not_open);
    auto rekeyed = hello_to(world);
    rekeyed.client_short[0] ^= 1;
    CHECK(world.status(rekeyed) == Status::box_does_not_open);
    CHECK(world.nonces.nonces.size() == nonces);
}

TEST_CASE("a Hello whose 64 zeros are not zeros is refused") {
    World world;
    CHECK(world.status(hello_to(world, 1)) == Status::box_does_not_open);
    CHECK(world.status(hello_to(world, 0)) == Status::ok);
}

TEST_CASE("public keys of low order or not in canonical form are refused in every verb") {
    World world;
    std::vector<ByteArray<32>> weak(4);
    weak[1][0] = 1;
    weak[2] = bytes_of(world.client_short.public_key);
    weak[2][31] |= 0x80;
    weak[3].fill(0xff);
    for (const auto& key : weak) {
        auto hello = hello_to(world);
        hello.client_short = key;
        CHECK(world.status(hello) == Status::weak_key);
        auto order = vouch_order(world);
        order.server = key;
        CHECK(world.status(order) == Status::weak_key);
        order = vouch_order(world);
        order.client_short = key;
        CHECK(world.status(order) == Status::weak_key);
        auto vouch = vouch_to(world);
        vouch.client = key;
        CHECK(world.status(vouch) == Status::weak_key);
        vouch = vouch_to(world);
        vouch.client_short = key;
        CHECK(world.status(vouch) == Status::weak_key);
    }
}

TEST_CASE("a vouch is made for servers in known_hosts only") {
    World world;
    CHECK(world.status(vouch_order(world)) == Status::ok);
    world.servers.trusted.clear();
    CHECK(world.status(vouch_order(world)) == Status::unknown_peer);
}

TEST_CASE("a vouch opens for its server, its client and its short-term key only") {
    World world;
    const auto good = vouch_to(world);
    CHECK(world.status(good) == Status::ok);
    for (std::size_t bit = 0; bit < 8 * kVouchSize; bit += 5) {
        auto changed = good;
        changed.vouch[bit / 8] = static_cast<Byte>(changed.vouch[bit / 8] ^ (1U << (bit % 8)));
        CHECK(world.status(changed) == Status::vouch_is_wrong);
    }
    auto other_nonce = good;
    other_nonce.nonce.bytes[0] ^= 1;
    CHECK(world.status(other_nonce) == Status::vouch_is_wrong);
    auto other_client = good;
    other_client.client = bytes_of(world.far_server.public_key);
    CHECK(world.status(other_client) == Status::vouch_is_wrong);
    auto other_short = good;
    other_short.client_short = bytes_of(test::short_keys(99).public_key);
    CHECK(world.status(other_short) == Status::vouch_is_wrong);
}

TEST_CASE("the shared key of a peer whose vouch is wrong is not kept") {
    World world;
    auto wrong = vouch_to(world);
    wrong.vouch[0] ^= 1;
    const auto secrets = test::pool().in_use();
    CHECK(world.status(wrong) == Status::vouch_is_wrong);
    CHECK(test::pool().in_use() == secrets);
    CHECK(world.status(vouch_to(world)) == Status::ok);
    CHECK(test::pool().in_use() == secrets + 1);
}

TEST_CASE("no more than 64 shared keys are kept, those not used for longest go first") {
    SharedKeys kept(2);
    const auto kind = GENERATE(SharedKeys::Peer::listed, SharedKeys::Peer::stranger);
    const auto own = key_of(KeyRole::server, 0x11);
    const auto peer = [](Byte fill) { return key_of(KeyRole::client, fill).public_key; };
    const auto keep = [&](Byte fill) {
        kept.keep(peer(fill), crypto::agree(own.secret, peer(fill)).value(), kind);
    };
    keep(1);
    keep(2);
    CHECK(kept.find(peer(1)) != nullptr);
    keep(3);
    CHECK(kept.size() == 2);
    CHECK(kept.find(peer(1)) != nullptr);
    CHECK(kept.find(peer(2)) == nullptr);
    CHECK(kept.find(peer(3)) != nullptr);
}

TEST_CASE("vouches are made 10,000 at once and 5,000 a second") {
    World world;
    world.servers.trusted.clear();  // refused after the rate is asked, before anything costs
    const Instant start{};
    for (int i = 0; i < 10'000; ++i) REQUIRE(world.status(vouch_order(world), start) == Status::unknown_peer);
    CHECK(world.status(vouch_order(world), start) == Status::over_rate);
    const Instant later = start + std::chrono::milliseconds(100);
    for (int i = 0; i < 500; ++i) REQUIRE(world.status(vouch_order(world), later) == Status::unknown_peer);
    CHECK(world.status(vouch_order(world), later) == Status::over_rate);
}

TEST_CASE("without a nonce nothing is sealed") {
    World world;
    world.nonces.nonces.clear();
    CHECK(world.status(hello_to(world)) == Status::no_nonce);
    CHECK(world.status(vouch_order(world)) == Status::no_nonce);
    CHECK(world.status(vouch_to(world)) == Status::ok);
}

TEST_CASE("a pool without a free slot refuses the request as no memory") {
    ByteArray<32> bytes{};
    bytes.fill(0x11);
    auto tight = crypto::SecretPool::create(os::secret_pages(), crypto::Locking::attempt, 1).value();
    auto secret = crypto::LongTermSecret::adopt(*tight, bytes).value();
    const auto public_key = crypto::public_key_of(secret).value();
    std::vector<crypto::SharedKey> taken;
    while (true) {
        auto one = crypto::SecretBytes::blank<crypto::SharedTag>(*tight);
        if (!one) break;
        taken.push_back(std::move(*one));
    }
    World world;
    RecordedNonces nonces;
    Service service(Service::Key{{KeyRole::server, public_key, std::move(secret)}, &nonces}, std::nullopt,
                    world.servers);
    const auto reply = service.handle({RequestId{1}, hello_to(world)}, {}, {});
    CHECK(std::get<Refused>(reply.body).status == Status::no_memory);
}

bool contains(Bytes haystack, Bytes needle) {
    return std::search(haystack.begin(), haystack.end(), needle.begin(), needle.end()) != haystack.end();
}

TEST_CASE("no reply holds a secret or a key derived from one, whatever is asked") {
    World world;
    ByteArray<32> server_secret{};
    server_secret.fill(0x11);
    ByteArray<32> client_secret{};
    client_secret.fill(0x22);
    const auto hello_key = crypto::agree(world.client_short.secret, world.server_public).value();
    const auto vouch_key = crypto::agree(world.far_client.secret, world.server_public).value();
    const std::vector<Bytes> secrets = {server_secret, client_secret, crypto::SecretBytes::of(hello_key),
                                        crypto::SecretBytes::of(vouch_key)};
    std::uint32_t seed = 1;
    const auto noise = [&seed] { return static_cast<Byte>((seed = seed * 1664525 + 1013904223) >> 24); };
    for (int round = 0; round < 300; ++round) {
        std::vector<RequestBody> requests = {
            hello_to(world), vouch_order(world), vouch_to(world),
            GetPublicKey{round % 2 == 0 ? KeySlot::server : KeySlot::client}};
        if (round > 0) {
            std::get<AnswerHello>(requests[0]).payload[noise() % 128] = noise();
            std::get<AnswerHello>(requests[0]).number[noise() % 8] = noise();
            std::get<MakeVouch>(requests[1]).client_short[noise() % 31] = noise();
            std::get<OpenVouch>(requests[2]).nonce.bytes[noise() % 16] = noise();
        }
        for (const auto& request : requests) {
            MessageBuffer buffer;
            const auto reply = serialise(world.ask(request), buffer);
            for (const auto& secret : secrets) REQUIRE_FALSE(contains(reply, secret.first(8)));
        }
    }
}

}  // namespace
}  // namespace curvegate::vault
