#include "crypto/box.hpp"
#include "os/file.hpp"
#include "os/random.hpp"
#include "tests/unit/vault_support.hpp"
#include "vault/control.hpp"
#include "vault/control_message.hpp"
#include "vault/key_file.hpp"
#include "vault/listener.hpp"
#include "vault/rotation.hpp"
#include "vault/server.hpp"
#include "vault/startup.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>
#include <vector>

namespace curvegate::vault {
namespace {

using test::key_of;

const crypto::PublicKey& public_of(Byte fill) {
    static std::map<Byte, crypto::PublicKey> known;
    const auto found = known.find(fill);
    if (found != known.end()) return found->second;
    return known.emplace(fill, key_of(KeyRole::server, fill).public_key).first->second;
}

RotationState at_first() {
    return single_key(public_of(0x11), "/keys/a");
}
RotationState with_next() {
    return begin_rotation(at_first(), public_of(0x12), "/keys/b").value();
}
RotationState switched() {
    return switch_keys(with_next()).value();
}

// ---- the steps ----

TEST_CASE("a rotation goes from one key over two to the other") {
    const auto first = at_first();
    CHECK(first.current.slot == KeySlot::server);
    const auto next = with_next();
    CHECK(next.current == first.current);
    CHECK(next.second.slot == KeySlot{1});
    CHECK(next.second.path == "/keys/b");
    const auto then = switched();
    CHECK(then.current == next.second);
    CHECK(then.second == next.current);
    CHECK(then.part == Second::previous);
    const auto last = finish_rotation(then).value();
    CHECK(last.current == next.second);
    CHECK(last.part == Second::none);
    CHECK(last.dropped.none());
    for (const auto& [before, after] : {std::pair(first, next), {next, then}, {then, last}})
        CHECK(after.sequence == before.sequence + 1);
}

TEST_CASE("each step of a rotation is refused where it has no place, and says what to do") {
    CHECK_FALSE(switch_keys(at_first()));
    CHECK_FALSE(finish_rotation(at_first()));
    CHECK_FALSE(cancel_rotation(at_first()));
    CHECK_FALSE(drop_compromised(at_first()));
    CHECK_FALSE(begin_rotation(at_first(), public_of(0x11), "/keys/a"));  // the current key itself
    CHECK_FALSE(begin_rotation(at_first(), public_of(0x12), "keys/b"));
    CHECK_FALSE(begin_rotation(with_next(), public_of(0x13), "/keys/c"));
    CHECK_FALSE(begin_rotation(switched(), public_of(0x13), "/keys/c"));
    CHECK(finish_rotation(with_next()).error().find("rotate switch") != std::string::npos);
    CHECK(cancel_rotation(switched()).error().find("rotate switch") != std::string::npos);
    CHECK(drop_compromised(at_first()).error().find("rotate start") != std::string::npos);
}

TEST_CASE("a switch can be taken back, and so can a next key") {
    const auto back = switch_keys(switched()).value();
    CHECK(back.current == with_next().current);
    CHECK(back.part == Second::next);
    const auto cancelled = cancel_rotation(with_next()).value();
    CHECK(cancelled.current == at_first().current);
    CHECK(cancelled.part == Second::none);
}

TEST_CASE("a compromised key goes from either place, and its slot is marked") {
    for (const auto& state : {with_next(), switched()}) {
        const auto after = drop_compromised(state).value();
        CHECK(after.current.slot == KeySlot{1});
        CHECK(after.part == Second::none);
        CHECK(after.dropped.count() == 1);
        CHECK(after.dropped.test(0));
    }
}

TEST_CASE("a slot is not given again for 127 rotations, and never while its key is live") {
    auto state = at_first();
    std::set<KeySlot> given = {state.current.slot};
    for (int i = 0; i < 300; ++i) {
        state = begin_rotation(state, public_of(i % 2 == 0 ? 0x12 : 0x11), "/keys/x").value();
        CHECK(state.second.slot != state.current.slot);
        CHECK(static_cast<std::size_t>(state.second.slot) < kServerSlots);
        if (i < 127) CHECK(given.insert(state.second.slot).second);
        state = finish_rotation(switch_keys(state).value()).value();
    }
    CHECK(given.size() == kServerSlots);
}

// ---- records ----

TEST_CASE("a rotation's record gives back what was written") {
    auto dropped = drop_compromised(switched()).value();
    for (const auto& state : {at_first(), with_next(), switched(), dropped}) {
        const auto read = decode_rotation(encode(state));
        REQUIRE(read);
        CHECK(*read == state);
    }
}

TEST_CASE("every flipped bit of a rotation's record is seen") {
    const auto good = encode(switched());
    for (std::size_t bit = 0; bit < good.size() * 8; bit += 7) {
        auto bad = good;
        bad[bit / 8] = static_cast<Byte>(bad[bit / 8] ^ (1U << (bit % 8)));
        REQUIRE_FALSE(decode_rotation(bad));
    }
}

TEST_CASE("of two good records the newer counts, and a later version stops an older program") {
    ByteArray<kRotationFileSize> file = new_rotation_file(with_next());
    const auto newer = encode(switched());
    for (const std::size_t index : {0U, 1U}) {
        auto mixed = file;
        std::ranges::copy(newer, mixed.begin() + static_cast<std::ptrdiff_t>(index * kRotationRecordSize));
        CHECK(choose_rotation(mixed).value().state == switched());
        mixed[index * kRotationRecordSize + 100] ^= 1;  // torn
        CHECK(choose_rotation(mixed).value().state == with_next());
        mixed[(1 - index) * kRotationRecordSize + 100] ^= 1;
        CHECK(choose_rotation(mixed).error().is(RotationErrc::damaged));
    }
    file[11] = 2;
    CHECK(choose_rotation(file).error().is(RotationErrc::later_version));
}

// ---- the file ----

auto open_store(const std::string& path,
                RotationStore::IfMissing if_missing = RotationStore::IfMissing::make) {
    return RotationStore::open(path, at_first(), if_missing, 0);
}

TEST_CASE("the state of a rotation survives, and both records hold the last one") {
    const test::TemporaryFolder folder;
    const auto path = rotation_path(folder.path(), public_of(0x11));
    CHECK(open_store(path, RotationStore::IfMissing::none).value() == nullptr);
    {
        auto store = open_store(path).value();
        CHECK(store->state() == at_first());
        REQUIRE(store->advance(with_next()));
        REQUIRE(store->advance(switched()));
        CHECK_FALSE(open_store(path));  // held
        const auto content = test::read_file(path);
        CHECK(content.substr(0, kRotationRecordSize) == content.substr(kRotationRecordSize));
    }
    CHECK(open_store(path).value()->state() == switched());
    struct stat info{};
    REQUIRE(::stat(path.c_str(), &info) == 0);
    CHECK((info.st_mode & 07777) == 0600);
}

TEST_CASE("a rotation's file that a crash left behind is gone on from") {
    const test::TemporaryFolder folder;
    const auto path = rotation_path(folder.path(), public_of(0x11));
    SECTION("made and never filled") {
        for (const std::size_t size : {0U, 1U, 4096U, 8191U}) {
            test::write_file(path, std::string(size, 'x'));
            CHECK(open_store(path).value()->state() == at_first());
        }
    }
    SECTION("one record written, the other not yet: completed") {
        auto file = new_rotation_file(switched());
        std::ranges::copy(encode(with_next()), file.begin());
        test::write_file(path, as_text(file));
        CHECK(open_store(path).value()->state() == switched());
        CHECK(test::read_file(path) == as_text(new_rotation_file(switched())));
    }
    SECTION("damaged in both: refused, with what to do") {
        test::write_file(path, std::string(kRotationFileSize, 'x'));
        CHECK(open_store(path).error().is(RotationErrc::damaged));
    }
    SECTION("open to others: refused") {
        test::write_file(path, as_text(new_rotation_file(switched())));
        REQUIRE(::chmod(path.c_str(), 0640) == 0);
        CHECK(open_store(path).error().is(RotationErrc::unusable));
    }
}

TEST_CASE("a rotation's file counts as missing only where there is none") {
    using enum RotationStore::IfMissing;
    const test::TemporaryFolder folder;
    const auto path = rotation_path(folder.path(), public_of(0x11));
    REQUIRE(open_store(path, make));
    errno = ENOENT;  // of an earlier call: it says nothing about this file
    CHECK(open_store(path, none).value() != nullptr);
    // The path leads through a file, or into a circle: nobody can tell what stands there, so it is an error.
    test::write_file(folder.file("file"), "x");
    std::filesystem::create_symlink("circle", folder.file("circle"));
    for (const std::string name : {"file/rotation", "circle"}) {
        for (const auto if_missing : {none, make}) {
            const auto store = open_store(folder.file(name), if_missing);
            REQUIRE_FALSE(store);
            CHECK(store.error().is(RotationErrc::unusable));
        }
    }
}

TEST_CASE("a key that another was rotated to finds the state of that rotation") {
    const test::TemporaryFolder folder;
    test::write_file(rotation_path(folder.path(), public_of(0x11)), as_text(new_rotation_file(switched())));
    CHECK(inherited_state(folder.path(), public_of(0x12), "/keys/b") == switched());
    CHECK(inherited_state(folder.path(), public_of(0x13), "/keys/c") ==
          single_key(public_of(0x13), "/keys/c"));
}

// ---- the service with two server keys ----

class Endless final : public NonceSource {
  public:
    Result<crypto::LongTermNonce> next() override {
        crypto::LongTermNonce nonce;
        store_be<std::uint64_t>(MutableFixedBytes<16>(nonce.bytes).first<8>(), ++given);
        return nonce;
    }
    std::uint64_t given = 0;
};

AnswerHello hello_for(Byte server, KeySlot slot) {
    const auto keys = test::short_keys(9);
    AnswerHello hello{slot, to_array(keys.public_key.bytes()), {}, {}, {}};
    const auto shared = crypto::agree(keys.secret, public_of(server)).value();
    crypto::seal(shared, crypto::Nonce::make(crypto::ShortPurpose::hello, hello.number), ByteArray<64>{},
                 hello.box);
    return hello;
}
OpenVouch vouch_for(Byte server, KeySlot slot) {
    const auto client = key_of(KeyRole::client, 0x44);
    const auto keys = test::short_keys(9);
    OpenVouch vouch{slot, to_array(client.public_key.bytes()), {}, {}, to_array(keys.public_key.bytes())};
    const auto shared = crypto::agree(client.secret, public_of(server)).value();
    crypto::seal(shared, crypto::Nonce::make(crypto::LongPurpose::vouch, vouch.nonce),
                 keys.public_key.bytes(), vouch.vouch);
    return vouch;
}

/// "answer", "other SLOT CURRENT", "good", or the status.
std::string told(const ReplyBody& body) {
    if (std::holds_alternative<HelloAnswer>(body)) return "answer";
    if (std::holds_alternative<VouchIsGood>(body)) return "good";
    if (const auto* other = std::get_if<OtherSlot>(&body)) {
        return "other " + std::to_string(static_cast<int>(other->slot)) + " " +
               std::to_string(static_cast<int>(other->current));
    }
    if (const auto* refused = std::get_if<Refused>(&body)) return std::string(describe(refused->status));
    return "?";
}
const std::string kNotForUs(describe(Status::box_does_not_open));
const std::string kNoKey(describe(Status::no_such_key));
const std::string kWrongVouch(describe(Status::vouch_is_wrong));

/// A service whose current server key is 0x11 in slot 0.
struct TwoKeys {
    TwoKeys() : service(Service::Key{key_of(KeyRole::server, 0x11), &one}, std::nullopt, nobody) {}
    void add() { service.add_server({key_of(KeyRole::server, 0x12), &two}, KeySlot{1}); }
    std::string ask(const RequestBody& body) {
        return told(service.handle({RequestId{1}, body}, Instant{} + std::chrono::seconds(5), {}).body);
    }
    Endless one;
    Endless two;
    NoListedKeys nobody;
    Service service;
};
constexpr KeySlot kFirst{0};
constexpr KeySlot kSecond{1};

TEST_CASE("a vault with one key answers in its slot, and tells a front that names another") {
    TwoKeys world;
    CHECK(world.ask(hello_for(0x11, kFirst)) == "answer");
    CHECK(world.ask(hello_for(0x11, KeySlot{9})) == "other 0 0");
    CHECK(world.ask(hello_for(0x12, kFirst)) == kNotForUs);
    CHECK(world.ask(hello_for(0x11, KeySlot::client)) == kNoKey);
    CHECK(world.one.given == 1);
}

TEST_CASE("both keys are answered during a rotation, each in its own slot and with its own nonces") {
    TwoKeys world;
    world.add();
    CHECK(world.ask(hello_for(0x11, kFirst)) == "answer");
    CHECK(world.ask(hello_for(0x12, kFirst)) == "other 1 0");
    CHECK(world.two.given == 0);  // nothing was sealed
    CHECK(world.ask(hello_for(0x12, kSecond)) == "answer");
    CHECK(world.ask(hello_for(0x11, kSecond)) == "other 0 0");
    CHECK(world.ask(hello_for(0x13, kFirst)) == kNotForUs);
    CHECK(world.ask(hello_for(0x13, kSecond)) == kNotForUs);
    CHECK(world.one.given == 1);
    CHECK(world.two.given == 1);
    world.service.switch_servers();
    CHECK(world.ask(hello_for(0x11, kFirst)) == "answer");  // slots stay with their keys
    CHECK(world.ask(hello_for(0x12, kFirst)) == "other 1 1");
}

TEST_CASE("a vouch is opened under the key of its slot and no other") {
    TwoKeys world;
    world.add();
    CHECK(world.ask(vouch_for(0x11, kFirst)) == "good");
    CHECK(world.ask(vouch_for(0x12, kSecond)) == "good");
    CHECK(world.ask(vouch_for(0x12, kFirst)) == kWrongVouch);
    CHECK(world.ask(vouch_for(0x11, kSecond)) == kWrongVouch);
    CHECK(world.ask(vouch_for(0x11, KeySlot{2})) == kNoKey);
    CHECK(world.service.use_of(kFirst)->clients == 1);
    CHECK(world.service.use_of(kSecond)->clients == 1);
    CHECK(world.service.use_of(kSecond)->last == Instant{} + std::chrono::seconds(5));
    CHECK_FALSE(world.service.use_of(KeySlot{2}));
}

TEST_CASE("a key that was dropped is refused, and its secrets are wiped") {
    TwoKeys world;
    const auto before = test::pool().in_use();
    world.add();
    CHECK(world.ask(vouch_for(0x11, kFirst)) == "good");  // its shared key is kept
    world.service.switch_servers();
    world.service.drop_second();
    CHECK(test::pool().in_use() == before);
    CHECK(world.ask(hello_for(0x11, kFirst)) == kNotForUs);
    CHECK(world.ask(vouch_for(0x11, kFirst)) == kNoKey);
    CHECK(world.ask(hello_for(0x12, kFirst)) == "other 1 1");
    CHECK(world.ask(hello_for(0x12, kSecond)) == "answer");
}

// ---- what the control socket asks for ----

/// A vault with its files, and what `curvegate rotate start` does before it asks.
struct Site {
    Site() {
        make("a.key", 0x11);
        options.server_key = KeyPlace{folder.file("a.key"), false};
        options.lock_memory = Need::attempt;
        options.control = folder.file("control.sock");
        open();
    }
    void make(std::string_view name, Byte fill, KeyRole role = KeyRole::server) {
        const auto key = key_of(role, fill);
        REQUIRE(store_key(folder.file(name), key, random, std::nullopt));
        REQUIRE(init_counter(counter_path(folder.path(), key.public_key), key.public_key, random));
    }
    void open() {
        holdings.reset();
        auto opened =
            Holdings::open(options, [this](std::string_view line) { lines.emplace_back(line); }, -1);
        if (!opened) FAIL(opened.error().text);
        holdings = std::move(*opened);
        holdings->rotation()->set_hooks({[this](NonceCounter&) { ++added; },
                                         [this](NonceCounter&) { ++dropped; },
                                         [this](KeySlot slot) { compromised.push_back(slot); }});
    }
    /// What proves the right to rotate.
    [[nodiscard]] std::vector<os::UniqueFd> proof(int flags = O_RDWR) {
        std::vector<os::UniqueFd> out;
        out.emplace_back(::open(state_file().c_str(), flags | O_CLOEXEC));
        return out;
    }
    [[nodiscard]] std::string state_file() {
        return holdings->rotation()->handle({ControlVerb::status, {}, {}}, {}, {}).state_file;
    }
    [[nodiscard]] std::vector<os::UniqueFd> descriptors(std::string_view name, Byte fill) {
        const auto counter = counter_path(folder.path(), public_of(fill));
        std::vector<os::UniqueFd> out = proof();
        out.emplace_back(::open(folder.file(name).c_str(), O_RDONLY | O_CLOEXEC));
        out.emplace_back(::open(counter.c_str(), O_RDWR | O_CLOEXEC));
        out.emplace_back(::open((counter + ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        return out;
    }
    ControlReply ask(ControlVerb verb) {
        return with(verb, verb == ControlVerb::status ? std::vector<os::UniqueFd>() : proof());
    }
    ControlReply with(ControlVerb verb, std::vector<os::UniqueFd> handed) {
        return holdings->rotation()->handle({verb, {}, {}}, std::move(handed), {});
    }
    ControlReply start(std::string_view name, Byte fill) {
        const auto path = folder.file(name);
        return holdings->rotation()->handle({ControlVerb::start, path, {}}, descriptors(name, fill), {});
    }
    /// The live keys as "current 0x11, next 0x12".
    static std::string keys(const ControlReply& reply) {
        std::string out;
        for (const auto& key : reply.keys) {
            out += (out.empty() ? "" : ", ") + std::string(name_of(key.part)) + " ";
            for (const Byte fill : std::initializer_list<Byte>{0x11, 0x12, 0x13}) {
                if (to_array(public_of(fill).bytes()) == key.public_key) out += std::to_string(fill - 0x10);
            }
        }
        return out;
    }
    std::string ask_vault(const RequestBody& body) {
        return told(holdings->service().handle({RequestId{1}, body}, {}, {}).body);
    }

    os::SystemRandom random;
    test::TemporaryFolder folder;
    Options options;
    std::vector<std::string> lines;
    std::unique_ptr<Holdings> holdings;
    int added = 0;
    int dropped = 0;
    std::vector<KeySlot> compromised;
};

TEST_CASE("a rotation by the control socket takes effect at once and survives a restart after each step") {
    Site site;
    site.make("b.key", 0x12);
    const bool restarts = GENERATE(false, true);
    const auto restart = [&] {
        if (restarts) site.open();
    };
    CHECK(Site::keys(site.ask(ControlVerb::status)) == "current 1");
    const auto started = site.start("b.key", 0x12);
    CHECK(started.refusal.empty());
    CHECK(Site::keys(started) == "current 1, next 2");
    CHECK(site.added == 1);
    restart();
    CHECK(site.ask_vault(hello_for(0x11, kFirst)) == "answer");
    CHECK(site.ask_vault(hello_for(0x12, kSecond)) == "answer");
    CHECK(site.holdings->rotation()->counters().size() == 2);
    CHECK(Site::keys(site.ask(ControlVerb::switch_over)) == "current 2, previous 1");
    restart();
    CHECK(site.ask_vault(hello_for(0x12, kFirst)) == "other 1 1");
    CHECK(site.ask_vault(hello_for(0x11, kFirst)) == "answer");
    CHECK(Site::keys(site.ask(ControlVerb::finish)) == "current 2");
    CHECK(site.dropped == 1);
    restart();
    CHECK(site.ask_vault(hello_for(0x11, kFirst)) == kNotForUs);
    CHECK(site.ask_vault(hello_for(0x12, kSecond)) == "answer");
    CHECK(site.compromised.empty());
    CHECK(CounterStore::open(counter_path(site.folder.path(), public_of(0x11)), public_of(0x11), 0)
              .has_value());
}

TEST_CASE("naming the new key as server-key in the midst of a rotation changes nothing") {
    Site site;
    site.make("b.key", 0x12);
    REQUIRE(site.start("b.key", 0x12).refusal.empty());
    REQUIRE(site.ask(ControlVerb::switch_over).refusal.empty());
    site.options.server_key = KeyPlace{site.folder.file("b.key"), false};
    site.open();
    CHECK(Site::keys(site.ask(ControlVerb::status)) == "current 2, previous 1");
    CHECK(Site::keys(site.ask(ControlVerb::finish)) == "current 2");
    site.open();
    CHECK(site.ask_vault(hello_for(0x12, kSecond)) == "answer");  // its slot stays its own
}

TEST_CASE("a compromised key is dropped with its slot told, and stays so after a restart") {
    Site site;
    site.make("b.key", 0x12);
    CHECK(site.ask(ControlVerb::compromised).refusal.find("rotate start") != std::string::npos);
    REQUIRE(site.start("b.key", 0x12).refusal.empty());
    if (GENERATE(false, true)) REQUIRE(site.ask(ControlVerb::switch_over).refusal.empty());
    CHECK(Site::keys(site.ask(ControlVerb::compromised)) == "current 2");
    CHECK(site.compromised == std::vector{kFirst});
    CHECK(site.ask_vault(hello_for(0x11, kFirst)) == kNotForUs);
    CHECK(site.ask_vault(vouch_for(0x11, kFirst)) == kNoKey);
    site.open();
    CHECK(site.holdings->rotation()->state().dropped.test(0));
    CHECK(site.ask_vault(hello_for(0x11, kFirst)) == kNotForUs);
    CHECK(site.lines.back().find("rotated out") != std::string::npos);
}

TEST_CASE("only who can write to the state file may change a key, whatever his uid is") {
    Site site;
    site.make("b.key", 0x12);
    site.make("c.key", 0x13);
    REQUIRE(site.start("b.key", 0x12).refusal.empty());
    const auto state = site.state_file();
    REQUIRE(state.starts_with("/"));
    const auto file = [&](const std::string& path, int flags) {
        std::vector<os::UniqueFd> out;
        out.emplace_back(::open(path.c_str(), flags | O_CLOEXEC));
        REQUIRE(out.front());
        return out;
    };
    const auto copy = site.folder.file("copy");
    REQUIRE(
        os::create_file(copy, as_bytes(os::read_checked(state, os::Privacy::secret, 100'000).value()), 0600));
    for (const auto verb :
         {ControlVerb::switch_over, ControlVerb::finish, ControlVerb::cancel, ControlVerb::compromised}) {
        const auto refused = [&](const ControlReply& reply) {
            INFO(name_of(verb) << ": " << reply.refusal);
            CHECK_FALSE(reply.refusal.empty());
            CHECK(Site::keys(reply) == "current 1, next 2");
        };
        refused(site.with(verb, {}));
        refused(site.with(verb, file(state, O_RDONLY)));
        refused(site.with(verb, file(state, O_WRONLY)));
        refused(site.with(verb, file(state, O_PATH)));
        refused(site.with(verb, file(copy, O_RDWR)));
        refused(site.with(verb, file(site.folder.path(), O_RDONLY | O_DIRECTORY)));
        refused(site.with(verb, file("/dev/null", O_RDWR)));
        auto two = site.proof();
        two.push_back(std::move(site.proof().front()));
        refused(site.with(verb, std::move(two)));
    }
    CHECK(Site::keys(site.with(ControlVerb::status, {})) == "current 1, next 2");
    REQUIRE(site.ask(ControlVerb::cancel).refusal.empty());
    auto others = site.descriptors("c.key", 0x13);
    others.front() = std::move(file(state, O_RDONLY).front());
    const auto path = site.folder.file("c.key");
    const auto reply =
        site.holdings->rotation()->handle({ControlVerb::start, path, {}}, std::move(others), {});
    CHECK(reply.refusal.find("prove") != std::string::npos);
    CHECK(Site::keys(reply) == "current 1");
}

TEST_CASE("what a rotation may not begin with is refused, and changes nothing") {
    Site site;
    site.make("b.key", 0x12);
    const auto refused = [&](const ControlReply& reply, std::string_view why) {
        INFO(reply.refusal);
        CHECK(reply.refusal.find(why) != std::string::npos);
        CHECK(Site::keys(reply) == "current 1");
        CHECK(site.added == 0);
    };
    SECTION("a client key") {
        site.make("c.key", 0x13, KeyRole::client);
        refused(site.start("c.key", 0x13), "role server");
    }
    SECTION("the current key") {
        refused(site.start("a.key", 0x11), "current key");
    }
    SECTION("a counter of another key") {
        site.make("c.key", 0x13);
        auto fds = site.descriptors("b.key", 0x12);
        auto others = site.descriptors("c.key", 0x13);
        fds[2] = std::move(others[2]);
        const auto path = site.folder.file("b.key");
        refused(site.holdings->rotation()->handle({ControlVerb::start, path, {}}, std::move(fds), {}),
                "another key");
    }
    SECTION("a counter in use") {
        const auto held =
            CounterStore::open(counter_path(site.folder.path(), public_of(0x12)), public_of(0x12), 0);
        refused(site.start("b.key", 0x12), "in use");
    }
    SECTION("a key file that others may read") {
        REQUIRE(::chmod(site.folder.file("b.key").c_str(), 0644) == 0);
        refused(site.start("b.key", 0x12), "600");
    }
    SECTION("no descriptors") {
        refused(site.holdings->rotation()->handle({ControlVerb::start, "/x", {}}, {}, {}), "descriptors");
    }
    SECTION("descriptors with another verb") {
        refused(site.holdings->rotation()->handle({ControlVerb::status, {}, {}},
                                                  site.descriptors("b.key", 0x12), {}),
                "descriptors");
    }
    CHECK(site.ask_vault(hello_for(0x12, kSecond)) == kNotForUs);
    site.open();
    CHECK(Site::keys(site.ask(ControlVerb::status)) == "current 1");
}

TEST_CASE("a vault whose key files do not fit the state of a rotation does not start") {
    Site site;
    site.make("b.key", 0x12);
    REQUIRE(site.start("b.key", 0x12).refusal.empty());
    site.holdings.reset();
    const auto failure = [&] {
        auto opened = Holdings::open(site.options, [](std::string_view) {}, -1);
        REQUIRE_FALSE(opened);
        return opened.error().text;
    };
    REQUIRE(::unlink(site.folder.file("b.key").c_str()) == 0);
    CHECK(failure().find("b.key") != std::string::npos);
    site.make("b.key", 0x13);
    CHECK(failure().find("another key") != std::string::npos);
}

TEST_CASE("a sealed key begins a rotation with its passphrase only") {
    Site site;
    const auto key = key_of(KeyRole::server, 0x12);
    const std::string_view passphrase = "correct horse";
    REQUIRE(store_key(site.folder.file("b.key"), key, site.random, as_bytes(passphrase)));
    REQUIRE(init_counter(counter_path(site.folder.path(), key.public_key), key.public_key, site.random));
    const auto path = site.folder.file("b.key");
    const auto start = [&](std::string_view with) {
        return site.holdings->rotation()
            ->handle({ControlVerb::start, path, as_bytes(with)}, site.descriptors("b.key", 0x12), {})
            .refusal;
    };
    CHECK(start("").find("passphrase") != std::string::npos);
    CHECK(start("wrong").find("passphrase") != std::string::npos);
    CHECK(start(passphrase).empty());
    CHECK(site.ask_vault(hello_for(0x12, kSecond)) == "answer");
}

// ---- the socket ----

struct Door {
    Door()
        : path(folder.file("control.sock")),
          door(
              listen_at(path, SocketMode::owner).value(),
              [this](const ControlRequest& request, std::vector<os::UniqueFd> handed, Instant) {
                  seen.push_back(request.verb);
                  descriptors += handed.size();
                  return ControlReply{request.verb, {}, {}, "/state", "/state/file"};
              },
              [this](std::string_view line) { lines.emplace_back(line); }) {
        address.sun_family = AF_UNIX;
        path.copy(address.sun_path, path.size());
    }
    [[nodiscard]] os::UniqueFd connect() {
        os::UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
        REQUIRE(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
        turn();
        return fd;
    }
    /// SO_PEERCRED tells who connected, so a child does that and leaves the socket to us.
    [[nodiscard]] os::UniqueFd connect_from_another_process() {
        auto [ours, theirs] = os::seqpacket_pair().value();
        const pid_t child = ::fork();
        if (child == 0) {
            const os::UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
            const bool good =
                ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
                os::send_message(theirs.get(), as_bytes("x"), fd.get()).has_value();
            ::_exit(good ? 0 : 1);
        }
        int status = -1;
        REQUIRE(::waitpid(child, &status, 0) == child);
        REQUIRE(status == 0);
        ByteArray<1> byte{};
        auto received = os::receive_message(ours.get(), byte);
        turn();
        return std::move(received.value()->fd);
    }
    void turn(Duration later = {}) {
        std::vector<pollfd> polls;
        door.add_polls(polls);
        REQUIRE(::poll(polls.data(), polls.size(), 0) >= 0);
        door.serve(polls, Instant{} + later);
    }
    static void send(const os::UniqueFd& to, Bytes bytes, std::span<const int> fds = {}) {
        REQUIRE(send_with_descriptors(to.get(), bytes, fds));
    }
    /// A reply waits; an end of the connection is none.
    static bool answered(const os::UniqueFd& from) {
        std::vector<Byte> buffer(kLargestControlReply);
        const ssize_t size = ::recv(from.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
        return size > 0 &&
               parse_control_reply(Bytes(buffer).first(static_cast<std::size_t>(size))).has_value();
    }
    test::TemporaryFolder folder;
    std::string path;
    sockaddr_un address{};
    std::vector<ControlVerb> seen;
    std::size_t descriptors = 0;
    std::vector<std::string> lines;
    ControlDoor door;
};
const std::vector<Byte> kStatus = {2, 1, 0, 0, 0, 0, 0, 0};

TEST_CASE("the control socket is the user's alone and answers each request once") {
    Door world;
    struct stat info{};
    REQUIRE(::stat(world.path.c_str(), &info) == 0);
    CHECK((info.st_mode & 07777) == 0600);
    const auto one = world.connect();
    for (int i = 0; i < 3; ++i) {
        Door::send(one, kStatus);
        world.turn();
        CHECK(Door::answered(one));
        CHECK_FALSE(Door::answered(one));
    }
    const std::array fds = {0, 1, 2};
    Door::send(one, kStatus, fds);
    world.turn();
    CHECK(world.descriptors == 3);
    CHECK(world.seen.size() == 4);
}

TEST_CASE("what is malformed on the control socket ends that connection and no other") {
    Door world;
    const auto honest = world.connect();
    const auto start = [](std::string_view path) {
        std::vector<Byte> out(kLargestControlRequest);
        out.resize(serialise(ControlRequest{ControlVerb::start, path, {}}, out).size());
        return out;
    };
    const std::vector<std::vector<Byte>> bad = {{1},
                                                {1, 1, 0, 0, 0, 0, 0, 0},
                                                {2, 0, 0, 0, 0, 0, 0, 0},
                                                {2, 7, 0, 0, 0, 0, 0, 0},
                                                {2, 1, 0, 0, 0, 0, 0, 1},
                                                {2, 1, 0, 1, 0, 0, 0, 0, '/'},
                                                {2, 2, 0, 0, 0, 0, 0, 0},
                                                {2, 2, 0, 2, 0, 0, 0, 0, '/'},
                                                {2, 2, 0, 1, 0, 0, 0, 0, '/', 'x'},
                                                start("relative"),
                                                start("/with\nline"),
                                                std::vector<Byte>(kLargestControlRequest + 1, 1)};
    for (const auto& bytes : bad) {
        const auto fd = world.connect();
        Door::send(fd, bytes);
        world.turn();
        CHECK_FALSE(Door::answered(fd));
        CHECK(world.door.connections() == 1);
    }
    CHECK(world.seen.empty());
    const std::array fds = {0, 1, 2, 2, 2};
    const auto fd = world.connect();
    Door::send(fd, kStatus, fds);
    world.turn();
    CHECK(world.seen.empty());
    Door::send(honest, kStatus);
    world.turn();
    CHECK(Door::answered(honest));
}

TEST_CASE("those who say nothing on the control socket are let go, and never more than a few are served") {
    Door world;
    std::vector<os::UniqueFd> many;
    for (std::size_t i = 0; i < ControlDoor::kMostConnections + 3; ++i)
        many.push_back(world.connect_from_another_process());
    CHECK(world.door.connections() == ControlDoor::kMostConnections);
    world.turn(ControlDoor::kIdle);
    CHECK(world.door.connections() == 0);
    world.turn(ControlDoor::kIdle);  // now there is room for those that waited
    CHECK(world.door.connections() == 3);
}

TEST_CASE("one process cannot take all connections of the control socket") {
    Door world;
    std::vector<os::UniqueFd> greedy;
    for (std::size_t i = 0; i < 3 * ControlDoor::kMostConnections; ++i) greedy.push_back(world.connect());
    CHECK(world.door.connections() == ControlDoor::kMostOfAProcess);
    const auto other = world.connect_from_another_process();
    CHECK(world.door.connections() == ControlDoor::kMostOfAProcess + 1);
    Door::send(other, kStatus);
    world.turn();
    CHECK(Door::answered(other));
    // One of the first process's own ends, and another may come in its place.
    greedy.erase(greedy.begin());
    world.turn();
    greedy.push_back(world.connect());
    Door::send(greedy.back(), kStatus);
    world.turn();
    CHECK(Door::answered(greedy.back()));
}

TEST_CASE("messages of the control socket survive the way there and back, and nothing shorter does") {
    std::vector<Byte> room(kLargestControlRequest);
    const std::vector<Byte> passphrase = {1, 2, 3};
    const auto bytes = serialise(ControlRequest{ControlVerb::start, "/keys/b", passphrase}, room);
    const auto request = parse_control_request(bytes);
    REQUIRE(request);
    CHECK(request->path == "/keys/b");
    CHECK(std::ranges::equal(request->passphrase, passphrase));
    for (std::size_t size = 0; size < bytes.size(); ++size)
        CHECK_FALSE(parse_control_request(bytes.first(size)));

    ControlReply reply{ControlVerb::finish, {}, {}, "/state", "/state/file"};
    for (const Byte fill : std::initializer_list<Byte>{0x11, 0x12}) {
        reply.keys.push_back({KeySlot{fill}, KeyPart::previous, to_array(public_of(fill).bytes()), 7,
                              ControlKey::kNever, "/keys/" + std::to_string(fill)});
    }
    auto whole = serialise(reply);
    REQUIRE(parse_control_reply(whole).has_value());
    CHECK(*parse_control_reply(whole) == reply);
    for (std::size_t size = 0; size < whole.size(); ++size)
        CHECK_FALSE(parse_control_reply(Bytes(whole).first(size)));
    whole.push_back(0);
    CHECK_FALSE(parse_control_reply(whole));
}

TEST_CASE("fronts are told of a compromised key, those that come later too") {
    TwoKeys world;
    Server server(world.service, {}, [](std::string_view) {});
    std::vector<KeySlot> dropped;
    server.greet_with([&] { return dropped; });
    const auto connect = [&] {
        auto [ours, theirs] = os::seqpacket_pair().value();
        server.add(std::move(theirs));
        return std::move(ours);
    };
    const auto notice = [&](const os::UniqueFd& from) -> int {
        REQUIRE(server.wait(0));
        server.serve({}, {});
        MessageBuffer buffer;
        const ssize_t size = ::recv(from.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
        if (size <= 0) return -1;
        const auto reply = parse_reply(Bytes(buffer).first(static_cast<std::size_t>(size))).value();
        return static_cast<int>(std::get<KeyDropped>(reply.body).slot);
    };
    const auto early = connect();
    CHECK(notice(early) == -1);
    dropped.push_back(KeySlot{5});
    server.announce(KeySlot{5});
    CHECK(notice(early) == 5);
    CHECK(notice(early) == -1);
    const auto late = connect();
    CHECK(notice(late) == 5);
}

}  // namespace
}  // namespace curvegate::vault
