#include "tests/unit/vault_support.hpp"
#include "vault/key_file.hpp"
#include "vault/key_text.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <set>
#include <vector>

namespace curvegate::vault {
namespace {

using test::key_of;
using test::pool;
using test::TemporaryFolder;

constexpr SealCost kCheap{1, 8 * 1024};

AskPassphrase answer(std::string passphrase) {
    return [passphrase = std::move(passphrase)](MutableBytes out) -> std::optional<std::size_t> {
        std::ranges::copy(passphrase, out.begin());
        return passphrase.size();
    };
}

std::string text_of(const LongTermKey& key, const std::optional<SealedSecret>& sealed = std::nullopt) {
    std::string text(kLongestKeyFile, '\0');
    text.resize(format_key(key, sealed, MutableBytes(reinterpret_cast<Byte*>(text.data()), text.size())));
    return text;
}

std::string sealed_text(const LongTermKey& key, std::string_view passphrase) {
    test::CountingRandom random;
    return text_of(key, seal_secret(key.secret, as_bytes(passphrase), kCheap, random).value());
}

Result<LongTermKey> parse(std::string text, const AskPassphrase& ask = {}) {
    // An exact copy, so that a read beyond it is seen by the sanitizers.
    std::vector<Byte> bytes(text.begin(), text.end());
    return parse_key(bytes, pool(), ask);
}

bool refuses(const Result<LongTermKey>& key, KeyFileErrc code) {
    return !key && key.error().is(code);
}

std::string replaced(std::string text, std::string_view from, std::string_view to) {
    const auto at = text.find(from);
    REQUIRE(at != std::string::npos);
    return text.replace(at, from.size(), to);
}

bool same_secret(const LongTermKey& a, const LongTermKey& b) {
    return std::ranges::equal(crypto::SecretBytes::of(a.secret), crypto::SecretBytes::of(b.secret));
}

TEST_CASE("a key file gives its key back, of either role") {
    for (const auto role : {KeyRole::server, KeyRole::client}) {
        const auto key = key_of(role, 0x11);
        const auto read = parse(text_of(key));
        REQUIRE(read);
        CHECK(read->role == role);
        CHECK(read->public_key == key.public_key);
        CHECK(same_secret(*read, key));
    }
}

TEST_CASE("a sealed key file opens with its passphrase") {
    const auto key = key_of(KeyRole::client, 0x12);
    const auto text = sealed_text(key, "correct horse");
    const auto read = parse(text, answer("correct horse"));
    REQUIRE(read);
    CHECK(same_secret(*read, key));
    CHECK(text.find("secret: ") == std::string::npos);
}

TEST_CASE("a sealed key file refuses a wrong passphrase and says when none is to be had") {
    const auto text = sealed_text(key_of(KeyRole::client, 0x12), "correct horse");
    CHECK(refuses(parse(text, answer("battery staple")), KeyFileErrc::wrong_passphrase));
    CHECK(refuses(parse(text, {}), KeyFileErrc::passphrase_needed));
    CHECK(refuses(parse(text, [](MutableBytes) { return std::nullopt; }), KeyFileErrc::passphrase_needed));
}

TEST_CASE("a sealed key file with any field changed does not open") {
    const auto key = key_of(KeyRole::client, 0x12);
    test::CountingRandom random;
    const auto sealed = seal_secret(key.secret, as_bytes("pass"), kCheap, random).value();
    const auto refusal = [&](const auto& change) {
        auto changed = sealed;
        change(changed);
        const auto read = parse(text_of(key, changed), answer("pass"));
        REQUIRE_FALSE(read);
        return read.error();
    };
    CHECK(refusal([](SealedSecret& s) { s.salt[0] ^= 1; }).is(KeyFileErrc::wrong_passphrase));
    CHECK(refusal([](SealedSecret& s) { s.commitment[31] ^= 1; }).is(KeyFileErrc::wrong_passphrase));
    CHECK(refusal([](SealedSecret& s) { s.cost.ops = 2; }).is(KeyFileErrc::wrong_passphrase));
    CHECK(refusal([](SealedSecret& s) { s.nonce[0] ^= 1; }).is(KeyFileErrc::malformed));
    CHECK(refusal([](SealedSecret& s) { s.box[47] ^= 1; }).is(KeyFileErrc::malformed));
}

TEST_CASE("what Argon2id may cost is bounded before any memory is taken") {
    const auto key = key_of(KeyRole::client, 0x12);
    const auto text = sealed_text(key, "pass");
    REQUIRE(text.find("argon2id 1 8192 ") != std::string::npos);
    bool asked = false;
    const AskPassphrase ask = [&](MutableBytes) -> std::optional<std::size_t> {
        asked = true;
        return std::nullopt;
    };
    for (const std::string cost :
         {"0 8192", "17 8192", "1 8191", "1 1048577", "1 4294967295", "1 4294967296", "01 8192", "+1 8192",
          "-1 8192", "1 8192 ", " 1 8192", "1", "x 8192", "1 0x2000"}) {
        INFO(cost);
        CHECK(refuses(parse(replaced(text, "1 8192", cost), ask), KeyFileErrc::malformed));
    }
    CHECK_FALSE(asked);
    CHECK(SealCost{}.in_bounds());
    CHECK(SealCost{16, 1024 * 1024}.in_bounds());
}

TEST_CASE("every truncation of a key file is malformed") {
    const auto key = key_of(KeyRole::server, 0x11);
    for (const auto& text : {text_of(key), sealed_text(key, "pass")}) {
        for (std::size_t size = 0; size < text.size(); ++size) {
            CHECK(refuses(parse(text.substr(0, size), answer("pass")), KeyFileErrc::malformed));
            CHECK_FALSE(parse_key_header(text.substr(0, size)));
        }
        CHECK(refuses(parse(text + "\n", answer("pass")), KeyFileErrc::malformed));
        CHECK(refuses(parse(text + "x", answer("pass")), KeyFileErrc::malformed));
    }
}

TEST_CASE("a key file is read strictly") {
    const auto text = text_of(key_of(KeyRole::server, 0x11));
    const std::vector<std::pair<std::string, std::string>> changes = {
        {"curvegate-secret-key 1", "curvegate-secret-key 2"},
        {"curvegate", "Curvegate"},
        {"role: server", "role: Server"},
        {"role: server", "role: both"},
        {"role: server", "role:server"},
        {"role: server", "role: server "},
        {"role: server\n", "role: server\r\n"},
        {"role: server\n", ""},
        {"public: ", "Public: "},
        {"public: ", "public:  "},
        {"secret: ", "secrets: "},
        {"secret: ", "sealed: "},
        {"secret: ", "sealed: scrypt "},
    };
    for (const auto& [from, to] : changes) {
        INFO(from << " -> " << to);
        CHECK(refuses(parse(replaced(text, from, to)), KeyFileErrc::malformed));
    }
}

TEST_CASE("the public line of a key file must be the secret's") {
    const auto text = text_of(key_of(KeyRole::server, 0x11));
    const auto mine = key_of(KeyRole::server, 0x11).public_key.text();
    const auto other = key_of(KeyRole::server, 0x13).public_key.text();
    CHECK(refuses(parse(replaced(text, mine, other)), KeyFileErrc::public_mismatch));
    CHECK(refuses(parse(replaced(text, mine, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")),
                  KeyFileErrc::malformed));
}

TEST_CASE("the text of a key file is wiped when it has been parsed, also when that fails") {
    const auto text = text_of(key_of(KeyRole::server, 0x11));
    for (const auto& content : {text, replaced(text, "role: server", "role: nobody")}) {
        std::vector<Byte> bytes(content.begin(), content.end());
        (void)parse_key(bytes, pool(), {});
        CHECK(std::ranges::all_of(bytes, [](Byte byte) { return byte == 0; }));
    }
}

TEST_CASE("a refused key leaves no secret behind in the pool") {
    const auto text = text_of(key_of(KeyRole::server, 0x11));
    const auto sealed = sealed_text(key_of(KeyRole::server, 0x11), "pass");
    const auto before = pool().in_use();
    (void)parse(replaced(text, "secret: ", "secret: !"));
    (void)parse(sealed, answer("wrong"));
    CHECK(pool().in_use() == before);
}

TEST_CASE("the header of a key file tells role, public key and seal without the secret") {
    const auto key = key_of(KeyRole::client, 0x12);
    const auto plain = parse_key_header(text_of(key)).value();
    CHECK(plain.role == KeyRole::client);
    CHECK(plain.public_key == key.public_key);
    CHECK_FALSE(plain.sealed);
    CHECK(parse_key_header(sealed_text(key, "pass")).value().sealed);
}

TEST_CASE("a stored key file has mode 0600, loads again and is never overwritten") {
    const TemporaryFolder folder;
    const auto path = folder.file("server.key");
    const auto key = key_of(KeyRole::server, 0x11);
    test::CountingRandom random;
    REQUIRE(store_key(path, key, random, std::nullopt));
    struct stat info{};
    REQUIRE(::stat(path.c_str(), &info) == 0);
    CHECK((info.st_mode & 07777) == 0600);
    CHECK(same_secret(load_key(path, pool(), {}).value(), key));

    const auto before = test::read_file(path);
    const auto again = store_key(path, key_of(KeyRole::server, 0x13), random, std::nullopt);
    REQUIRE_FALSE(again);
    CHECK(again.error().is(KeyFileErrc::exists));
    CHECK(test::read_file(path) == before);
}

TEST_CASE("a key file that cannot be written says so") {
    test::CountingRandom random;
    const auto stored =
        store_key("/nonexistent/folder/key", key_of(KeyRole::server, 0x11), random, std::nullopt);
    REQUIRE_FALSE(stored);
    CHECK(stored.error().is(KeyFileErrc::cannot_write));
}

TEST_CASE("a key file open to others, a symlink, a folder or a missing one is refused") {
    const TemporaryFolder folder;
    const auto path = folder.file("key");
    test::write_file(path, text_of(key_of(KeyRole::server, 0x11)));
    for (const auto mode : std::initializer_list<mode_t>{0640, 0604, 0660, 0620, 0602, 0610, 0601}) {
        REQUIRE(::chmod(path.c_str(), mode) == 0);
        CHECK(refuses(load_key(path, pool(), {}), KeyFileErrc::wrong_mode));
    }
    REQUIRE(::chmod(path.c_str(), 0400) == 0);
    CHECK(load_key(path, pool(), {}));
    REQUIRE(::symlink(path.c_str(), folder.file("link").c_str()) == 0);
    CHECK(refuses(load_key(folder.file("link"), pool(), {}), KeyFileErrc::not_regular));
    CHECK(refuses(load_key(folder.path(), pool(), {}), KeyFileErrc::not_regular));
    REQUIRE(::mkfifo(folder.file("fifo").c_str(), 0600) == 0);
    CHECK(refuses(load_key(folder.file("fifo"), pool(), {}), KeyFileErrc::not_regular));
    CHECK(refuses(load_key(folder.file("none"), pool(), {}), KeyFileErrc::missing));
    CHECK(refuses(load_key(path + "/below", pool(), {}), KeyFileErrc::unreadable));  // no folder
    if (::geteuid() == 0) {
        REQUIRE(::chown(path.c_str(), 65534, 65534) == 0);
        CHECK(refuses(load_key(path, pool(), {}), KeyFileErrc::wrong_owner));
    } else {
        WARN("SKIPPED: another owner's key file (needs root)");
    }
}

TEST_CASE("a credential may be readable by its group, as systemd shows it, but no more") {
    const TemporaryFolder folder;
    const auto path = folder.file("curvegate.server-key");
    test::write_file(path, text_of(key_of(KeyRole::server, 0x11)));
    REQUIRE(::chmod(path.c_str(), 0440) == 0);
    CHECK(load_credential_key(path, pool(), {}));
    for (const auto mode : std::initializer_list<mode_t>{0444, 0460, 0450}) {
        REQUIRE(::chmod(path.c_str(), mode) == 0);
        CHECK(refuses(load_credential_key(path, pool(), {}), KeyFileErrc::wrong_mode));
    }
}

TEST_CASE("a file that is longer than any key file is malformed") {
    const TemporaryFolder folder;
    test::write_file(folder.file("key"), std::string(kLongestKeyFile + 1, 'x'));
    CHECK(refuses(load_key(folder.file("key"), pool(), {}), KeyFileErrc::malformed));
}

TEST_CASE("what is wrong with a key file is told with its path and never with its content") {
    const TemporaryFolder folder;
    const auto path = folder.file("key");
    const auto text = text_of(key_of(KeyRole::server, 0x11));
    const auto secret = text.substr(text.find("secret: ") + 8, 43);
    for (const auto& content :
         {replaced(text, "secret: ", "secret: x"), replaced(text, "public: ", "public: x"),
          replaced(text, "role: server", "role: x"), text + "x"}) {
        test::write_file(path, content);
        const auto loaded = load_key(path, pool(), {});
        REQUIRE_FALSE(loaded);
        CHECK(loaded.error().text().find(path) != std::string::npos);
        CHECK(loaded.error().text().find(secret) == std::string::npos);
    }
}

TEST_CASE("every fault of a key file has words of its own") {
    std::set<std::string_view> words;
    for (int code = static_cast<int>(KeyFileErrc::missing);
         code <= static_cast<int>(KeyFileErrc::cannot_write); ++code) {
        words.insert(describe(static_cast<KeyFileErrc>(code)));
    }
    CHECK(words.size() == 12);
    CHECK_FALSE(words.contains("unknown"));
}

}  // namespace
}  // namespace curvegate::vault
