#include "tests/unit/vault_support.hpp"
#include "vault/counter_store.hpp"

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <set>

namespace curvegate::vault {
namespace {

using test::TemporaryFolder;

const crypto::PublicKey& our_key() {
    static const auto key = test::key_of(KeyRole::server, 0x11).public_key;
    return key;
}

/// A folder with a fresh counter of our key.
struct Place {
    Place() : path(counter_path(folder.path(), our_key())) {
        REQUIRE(init_counter(path, our_key(), random).value().done == CounterInit::created);
    }
    [[nodiscard]] auto open() const { return CounterStore::open(path, our_key(), 0); }
    [[nodiscard]] bool refuses(CounterErrc code) const {
        const auto store = open();
        return !store && store.error().is(code);
    }
    void change(std::size_t at, std::string_view bytes) const {
        auto content = test::read_file(path);
        content.replace(at, bytes.size(), bytes);
        test::write_file(path, content);
    }
    TemporaryFolder folder;
    test::CountingRandom random;
    std::string path;
};

TEST_CASE("a counter file is named after the first 16 hex digits of the public key") {
    const auto digits = crypto::encode_key(our_key().bytes(), crypto::KeyFormat::hex).substr(0, 16);
    CHECK(counter_path("/var/lib/curvegate", our_key()) == "/var/lib/curvegate/nonce." + digits);
}

TEST_CASE("a new counter file has mode 0600 and its full size") {
    const Place place;
    struct stat info{};
    REQUIRE(::stat(place.path.c_str(), &info) == 0);
    CHECK((info.st_mode & 07777) == 0600);
    CHECK(info.st_size == static_cast<off_t>(kCounterFileSize));
}

TEST_CASE("a block stands in the file before its first number is handed out") {
    const Place place;
    const auto before = test::read_file(place.path);
    auto store = place.open().value();
    const auto after = test::read_file(place.path);
    CHECK(before != after);
    CHECK(store->counter().next().value() == 0);
    CHECK(test::read_file(place.path) == after);
}

TEST_CASE("numbers in a counter file stay distinct over restarts and copies of a killed vault's file") {
    const Place place;
    std::set<std::uint64_t> given;
    for (int start = 0; start < 5; ++start) {
        auto store = place.open().value();
        for (int i = 0; i < 100; ++i) REQUIRE(given.insert(store->counter().next().value()).second);
        if (start % 2 == 0) {
            REQUIRE(store->counter().reserve());
        }
    }
    CHECK(given.size() == 500);
}

TEST_CASE("a second vault is refused while the first holds the counter, and not after") {
    const Place place;
    {
        const auto first = place.open();
        REQUIRE(first);
        CHECK(place.refuses(CounterErrc::in_use));
        test::CountingRandom random;
        const auto made = init_counter(place.path, our_key(), random, 0);
        REQUIRE_FALSE(made);
        CHECK(made.error().is(CounterErrc::in_use));
    }
    CHECK(place.open());
    CHECK(::access((place.path + ".lock").c_str(), F_OK) == 0);
}

TEST_CASE("a missing counter is refused, not made anew, and leaves no lock file") {
    const TemporaryFolder folder;
    const auto path = counter_path(folder.path(), our_key());
    const auto store = CounterStore::open(path, our_key(), 0);
    REQUIRE_FALSE(store);
    CHECK(store.error().is(CounterErrc::missing));
    CHECK(store.error().text() ==
          path +
              ": the nonce counter of this key is missing; run `curvegate counter init -c "
              "FILE` to make one");
    CHECK(::access(path.c_str(), F_OK) != 0);
    CHECK(::access((path + ".lock").c_str(), F_OK) != 0);
}

TEST_CASE("a counter file of any shorter length is refused") {
    const Place place;
    const auto whole = test::read_file(place.path);
    for (const std::size_t size : {0U, 1U, 127U, 128U, 4096U, 4223U, 8191U}) {
        test::write_file(place.path, whole.substr(0, size));
        CHECK(place.refuses(CounterErrc::too_short));
    }
    test::write_file(place.path, whole);
    CHECK(place.open());
}

TEST_CASE("a counter file of zeros is refused as damaged") {
    const Place place;
    test::write_file(place.path, std::string(kCounterFileSize, '\0'));
    CHECK(place.refuses(CounterErrc::damaged));
}

TEST_CASE("a counter file with one damaged slot is used with a skip, which is told") {
    const Place place;
    place.change(0, "x");
    auto store = place.open();
    REQUIRE(store);
    CHECK((*store)->recovered());
    CHECK((*store)->counter().next().value() == kCounterDamageSkip);
    store->reset();
    // The damaged slot has been written anew.
    CHECK_FALSE(place.open().value()->recovered());
}

TEST_CASE("a counter file of another key or a later version is refused") {
    const Place place;
    const auto other = test::key_of(KeyRole::server, 0x12).public_key;
    const auto store = CounterStore::open(place.path, other, 0);
    REQUIRE_FALSE(store);
    CHECK(store.error().is(CounterErrc::other_key));
    place.change(8, std::string_view("\0\0\0\2", 4));
    CHECK(place.refuses(CounterErrc::later_version));
}

TEST_CASE("a used-up counter file is refused") {
    const Place place;
    CounterSlot slot;
    slot.public_key = to_array(our_key().bytes());
    slot.sequence = 9;
    slot.reserved = ~std::uint64_t{0} - kCounterBlock + 1;
    const auto bytes = encode(slot);
    place.change(0, as_text(bytes));
    slot.sequence = 8;
    const auto older = encode(slot);
    place.change(kCounterSlotDistance, as_text(older));
    CHECK(place.refuses(CounterErrc::exhausted));
}

TEST_CASE("a counter file open to others, of another owner, a symlink or a folder is refused") {
    const Place place;
    for (const auto mode : std::initializer_list<mode_t>{0640, 0604, 0620, 0602, 0666}) {
        REQUIRE(::chmod(place.path.c_str(), mode) == 0);
        CHECK(place.refuses(CounterErrc::wrong_mode));
    }
    REQUIRE(::chmod(place.path.c_str(), 0600) == 0);
    const auto link = place.folder.file("link");
    REQUIRE(::symlink(place.path.c_str(), link.c_str()) == 0);
    for (const auto& path : {link, place.folder.path()}) {
        const auto store = CounterStore::open(path, our_key(), 0);
        REQUIRE_FALSE(store);
        CHECK(store.error().is(CounterErrc::not_regular));
    }
    if (::geteuid() == 0) {
        REQUIRE(::chown(place.path.c_str(), 65534, 65534) == 0);
        CHECK(place.refuses(CounterErrc::wrong_owner));
    } else {
        WARN("SKIPPED: another owner's counter (needs root)");
    }
}

TEST_CASE("every refusal to start names the path and what to do") {
    for (int code = static_cast<int>(CounterErrc::missing);
         code <= static_cast<int>(CounterErrc::cannot_write); ++code) {
        const auto error = static_cast<CounterErrc>(code);
        INFO(describe(error));
        const bool has_other_remedy = error == CounterErrc::denied || error == CounterErrc::unreadable ||
                                      error == CounterErrc::in_use || error == CounterErrc::no_folder ||
                                      error == CounterErrc::cannot_write;
        CHECK((describe(error).find("`curvegate counter init -c FILE`") == std::string_view::npos) ==
              has_other_remedy);
    }
    const Place place;
    test::write_file(place.path, std::string(kCounterFileSize, '\0'));
    CHECK(place.open().error().text().starts_with(place.path + ": "));
}

TEST_CASE("counter init leaves a good counter as it is") {
    Place place;
    const auto before = test::read_file(place.path);
    CHECK(init_counter(place.path, our_key(), place.random).value().done == CounterInit::already_good);
    CHECK(test::read_file(place.path) == before);
}

TEST_CASE("counter init moves a damaged counter aside and makes one with a fresh salt") {
    Place place;
    const auto salt = place.open().value()->salt();
    for (int round = 1; round <= 2; ++round) {
        test::write_file(place.path, "damaged " + std::to_string(round));
        const auto made = init_counter(place.path, our_key(), place.random).value();
        CHECK(made.done == CounterInit::replaced);
        CHECK(made.moved_to == place.path + ".old." + std::to_string(round));
        CHECK(test::read_file(made.moved_to) == "damaged " + std::to_string(round));
        CHECK(place.open().value()->salt() != salt);
    }
}

TEST_CASE("counter init does not touch what may be somebody's") {
    Place place;
    const auto refusal = [&](const crypto::PublicKey& key) {
        const auto before = test::read_file(place.path);
        const auto made = init_counter(place.path, key, place.random);
        REQUIRE_FALSE(made);
        CHECK(test::read_file(place.path) == before);
        return made.error();
    };
    CHECK(refusal(test::key_of(KeyRole::server, 0x12).public_key).is(CounterErrc::other_key));
    REQUIRE(::chmod(place.path.c_str(), 0644) == 0);
    CHECK(refusal(our_key()).is(CounterErrc::wrong_mode));
    REQUIRE(::chmod(place.path.c_str(), 0600) == 0);
    place.change(8, std::string_view("\0\0\0\2", 4));
    CHECK(refusal(our_key()).is(CounterErrc::later_version));
}

TEST_CASE("a folder that is not there is named, with how to make it") {
    test::CountingRandom random;
    const auto made = init_counter("/nonexistent/nonce.0", our_key(), random, 0);
    const auto opened = CounterStore::open("/nonexistent/nonce.0", our_key(), 0);
    REQUIRE_FALSE(made);
    REQUIRE_FALSE(opened);
    for (const Error& why : {made.error(), opened.error()}) {
        CHECK(why.is(CounterErrc::no_folder));
        CHECK(why.text() ==
              "/nonexistent: this folder, which is to hold the nonce counter (state-dir), is not there; make "
              "it "
              "for the user that the vault runs as: install -d -m 0700 -o USER FOLDER");
    }
}

TEST_CASE("a counter whose file cannot be written is refused at the start") {
    const Place place;
    rlimit before{};
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
    auto* const handler = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit tight{kCounterSlotDistance, before.rlim_max};  // the second slot lies beyond
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &tight) == 0);
    const auto store = place.open();
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
    std::signal(SIGXFSZ, handler);
    REQUIRE_FALSE(store);
    CHECK(store.error().is(CounterErrc::cannot_write));
}

}  // namespace
}  // namespace curvegate::vault
