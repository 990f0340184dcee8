#include "tests/unit/vault_rotation.hpp"
#include "vault/rotation.hpp"

#include <sys/resource.h>
#include <sys/stat.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <optional>
#include <set>

namespace curvegate::vault {
namespace {

using test::public_of;

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
        const auto second = open_store(path);
        REQUIRE_FALSE(second);
        CHECK(second.error().is(RotationErrc::in_use));
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

TEST_CASE("a rotation's state in a folder that is not there names the folder, with how to make it") {
    const auto store = open_store("/nonexistent/rotation.0");
    REQUIRE_FALSE(store);
    CHECK(store.error().is(RotationErrc::no_folder));
    CHECK(
        store.error().text().starts_with("/nonexistent: this folder, which is to hold the state of the key"));
    CHECK(open_store("/nonexistent/rotation.0", RotationStore::IfMissing::none).value() == nullptr);
}

/// While it lives no file of this process can grow, as on a full disk.
class FullDisk {
  public:
    FullDisk() {
        REQUIRE(::getrlimit(RLIMIT_FSIZE, &before_) == 0);
        const rlimit none{0, before_.rlim_max};
        REQUIRE(::setrlimit(RLIMIT_FSIZE, &none) == 0);
    }
    ~FullDisk() {
        ::setrlimit(RLIMIT_FSIZE, &before_);
        std::signal(SIGXFSZ, handler_);
    }
    FullDisk(const FullDisk&) = delete;
    FullDisk& operator=(const FullDisk&) = delete;

  private:
    rlimit before_{};
    void (*handler_)(int) = std::signal(SIGXFSZ, SIG_IGN);
};

TEST_CASE("a rotation's state that cannot be written is refused, and a step leaves it as it was") {
    const test::TemporaryFolder folder;
    const auto path = rotation_path(folder.path(), public_of(0x11));
    {
        std::optional<FullDisk> disk(std::in_place);
        const auto store = open_store(path);
        disk.reset();  // before anything is told
        REQUIRE_FALSE(store);
        CHECK(store.error().is(RotationErrc::cannot_write));
        CHECK(store.error().detail().starts_with(path + ": "));
    }
    auto store = open_store(path).value();  // what the try left behind is filled
    {
        std::optional<FullDisk> disk(std::in_place);
        const auto step = store->advance(with_next());
        disk.reset();
        REQUIRE_FALSE(step);
        CHECK(step.error().is(RotationErrc::cannot_write));
    }
    CHECK(store->state().current == at_first().current);
    CHECK(store->state().part == Second::none);
    CHECK(test::read_file(path) == as_text(new_rotation_file(at_first())));
    REQUIRE(store->advance(with_next()));
    store.reset();
    CHECK(open_store(path).value()->state() == with_next());
}

TEST_CASE("a key that another was rotated to finds the state of that rotation") {
    const test::TemporaryFolder folder;
    test::write_file(rotation_path(folder.path(), public_of(0x11)), as_text(new_rotation_file(switched())));
    CHECK(inherited_state(folder.path(), public_of(0x12), "/keys/b") == switched());
    CHECK(inherited_state(folder.path(), public_of(0x13), "/keys/c") ==
          single_key(public_of(0x13), "/keys/c"));
}

}  // namespace
}  // namespace curvegate::vault
