// System calls that a signal interrupts, that do a part of what was asked, or that a disk fails. Signals do
// not interrupt calls on local files, those of network file systems they do; so the calls of this program
// come by here first.
#include "os/random.hpp"
#include "tests/unit/vault_support.hpp"
#include "vault/counter_store.hpp"
#include "vault/rotation_store.hpp"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

namespace curvegate::vault {
namespace {

enum class Mishap { none, interrupted, in_part, disk_fails };
Mishap next_mishap = Mishap::none;

/// What the call under test is to meet, once. Gives how many bytes it may move, or nothing: it fails with
/// errno.
std::optional<std::size_t> meet(std::size_t size) {
    const Mishap mishap = std::exchange(next_mishap, Mishap::none);
    if (mishap == Mishap::in_part && size > 1) return size / 2;
    if (mishap == Mishap::none || mishap == Mishap::in_part) return size;
    errno = mishap == Mishap::interrupted ? EINTR : EIO;
    return std::nullopt;
}

}  // namespace

extern "C" {
// Under the names of the C library's own functions, which the linker then does not take.
ssize_t mishap_pread(int fd, void* into, std::size_t size, off_t at) __asm__("pread");
ssize_t mishap_pread(int fd, void* into, std::size_t size, off_t at) {
    const auto some = meet(size);
    if (some) return ::syscall(SYS_pread64, fd, into, *some, at);
    return -1;
}
ssize_t mishap_pwrite(int fd, const void* from, std::size_t size, off_t at) __asm__("pwrite");
ssize_t mishap_pwrite(int fd, const void* from, std::size_t size, off_t at) {
    const auto some = meet(size);
    if (some) return ::syscall(SYS_pwrite64, fd, from, *some, at);
    return -1;
}
}

namespace {

const crypto::PublicKey& our_key() {
    static const auto key = test::key_of(KeyRole::server, 0x11).public_key;
    return key;
}

Mishap any_mishap() {
    return GENERATE(Mishap::interrupted, Mishap::in_part);
}

bool was_met() {
    return std::exchange(next_mishap, Mishap::none) == Mishap::none;
}

TEST_CASE("a counter is read and written whole, though a call is interrupted or moves a part only") {
    const test::TemporaryFolder folder;
    os::SystemRandom random;
    const auto path = counter_path(folder.path(), our_key());
    REQUIRE(init_counter(path, our_key(), random));
    const Mishap mishap = any_mishap();
    next_mishap = mishap;
    auto store = CounterStore::open(path, our_key(), 0);  // the first call is a read
    REQUIRE(store);
    CHECK(was_met());
    CHECK_FALSE((*store)->recovered());
    // Numbers are taken until the next block must be written.
    while (!(*store)->counter().wants_reserve()) (void)(*store)->counter().next();
    next_mishap = mishap;
    REQUIRE((*store)->counter().reserve());
    CHECK(was_met());
    const auto last = (*store)->counter().next().value();
    store->reset();
    store = CounterStore::open(path, our_key(), 0);
    REQUIRE(store);
    CHECK_FALSE((*store)->recovered());
    CHECK((*store)->counter().next().value() > last);
}

TEST_CASE(
    "the state of a rotation is read and written whole, though a call is interrupted or moves a part only") {
    const test::TemporaryFolder folder;
    const auto path = rotation_path(folder.path(), our_key());
    const auto first = single_key(our_key(), "/keys/a");
    const auto next =
        begin_rotation(first, test::key_of(KeyRole::server, 0x12).public_key, "/keys/b").value();
    const auto open = [&] { return RotationStore::open(path, first, RotationStore::IfMissing::make, 0); };
    const Mishap mishap = any_mishap();
    {
        auto store = open();
        REQUIRE(store);
        next_mishap = mishap;
        REQUIRE((*store)->advance(next));
        CHECK(was_met());
    }
    next_mishap = mishap;
    const auto again = open();
    REQUIRE(again);
    CHECK(was_met());
    CHECK((*again)->state() == next);
}

TEST_CASE("a disk that fails is told, and what was there before is gone on with") {
    const test::TemporaryFolder folder;
    os::SystemRandom random;
    SECTION("under a counter") {
        const auto path = counter_path(folder.path(), our_key());
        REQUIRE(init_counter(path, our_key(), random));
        next_mishap = Mishap::disk_fails;
        const auto unread = CounterStore::open(path, our_key(), 0);
        REQUIRE_FALSE(unread);
        CHECK(unread.error().is(CounterErrc::unreadable));
        CHECK(unread.error().detail() == path + ": Input/output error");
        auto store = CounterStore::open(path, our_key(), 0).value();
        while (!store->counter().wants_reserve()) (void)store->counter().next();
        next_mishap = Mishap::disk_fails;
        const auto unwritten = store->counter().reserve();
        REQUIRE_FALSE(unwritten);
        CHECK(unwritten.error().is(CounterErrc::cannot_write));
        CHECK(store->counter().next());  // what is left of the block was reserved long before
    }
    SECTION("under the state of a rotation") {
        const auto path = rotation_path(folder.path(), our_key());
        const auto first = single_key(our_key(), "/keys/a");
        const auto open = [&] { return RotationStore::open(path, first, RotationStore::IfMissing::make, 0); };
        REQUIRE(open());
        next_mishap = Mishap::disk_fails;
        const auto unread = open();
        REQUIRE_FALSE(unread);
        CHECK(unread.error().is(RotationErrc::unusable));
        CHECK(unread.error().detail() == path + ": Input/output error");
        auto store = open().value();
        next_mishap = Mishap::disk_fails;
        const auto key = test::key_of(KeyRole::server, 0x12).public_key;
        const auto unwritten = store->advance(begin_rotation(first, key, "/keys/b").value());
        REQUIRE_FALSE(unwritten);
        CHECK(unwritten.error().is(RotationErrc::cannot_write));
        CHECK(store->state().part == Second::none);
    }
}

}  // namespace
}  // namespace curvegate::vault
