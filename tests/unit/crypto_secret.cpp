#include "crypto/message_box.hpp"
#include "crypto/secret.hpp"
#include "os/sanitizer.hpp"
#include "os/secret_pages.hpp"
#include "support/secrets.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include <concepts>
#include <fstream>
#include <ostream>

namespace curvegate::crypto {
namespace {

// ---- what cannot be written ----

template <class T>
concept Streamable = requires(std::ostream& out, const T& value) { out << value; };
template <class T>
concept Readable = requires(const T& value) { value.bytes(); } || requires(const T& value) { value.data(); };

template <class S>
constexpr bool is_guarded = !std::is_copy_constructible_v<S> && !std::is_copy_assignable_v<S> &&
                            std::is_nothrow_move_constructible_v<S> && std::is_nothrow_move_assignable_v<S> &&
                            !std::equality_comparable<S> && !std::totally_ordered<S> && !Streamable<S> &&
                            !Readable<S> && !std::is_default_constructible_v<S> &&
                            !std::is_constructible_v<S, Bytes> && !std::is_constructible_v<S, ByteArray<32>>;
static_assert(is_guarded<LongTermSecret>);
static_assert(is_guarded<EphemeralSecret>);
static_assert(is_guarded<SharedKey>);
static_assert(is_guarded<MinuteKey>);
static_assert(is_guarded<CookieKey>);
static_assert(is_guarded<PermutationKey>);
static_assert(is_guarded<SealKey>);
static_assert(is_guarded<OpenKey>);
static_assert(!std::is_convertible_v<LongTermSecret, EphemeralSecret>);
static_assert(!std::is_constructible_v<SharedKey, EphemeralSecret>);
static_assert(!std::is_constructible_v<CookieKey, MinuteKey>);
static_assert(!std::is_constructible_v<SealKey, SharedKey>);
static_assert(!std::is_constructible_v<SealKey, OpenKey> && !std::is_constructible_v<OpenKey, SealKey>);

// ---- the pool ----

constexpr ByteArray<32> kZeros{};
const std::size_t kSlotsPerChunk =
    4 * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) / SecretPool::kSlotSize;

std::unique_ptr<SecretPool> small_pool(std::size_t max_slots = 100) {
    auto pool = SecretPool::create(os::secret_pages(), Locking::attempt, max_slots);
    REQUIRE(pool.has_value());
    return std::move(*pool);
}

SharedKey key_in(SecretPool& pool, Byte fill = 0x5a) {
    ByteArray<32> bytes;
    bytes.fill(fill);
    return *SharedKey::adopt(pool, bytes);
}

/// What stands at `at` now. Slots stay mapped while they are free, so this may look at them.
ByteArray<32> memory_at(const Byte* at) {
    return to_array(FixedBytes<32>(at, 32));
}

/// Asks the kernel, which answers EFAULT where we would die.
bool is_readable(const Byte* at) {
    std::array<int, 2> ends{};
    REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
    const bool ok = ::write(ends[1], at, 1) == 1;
    ::close(ends[0]);
    ::close(ends[1]);
    return ok;
}

TEST_CASE("a secret is wiped when it is destroyed", "[crypto][secret]") {
    const auto pool = small_pool();
    const Byte* slot = nullptr;
    {
        const auto key = key_in(*pool);
        slot = SecretBytes::of(key).data();
        REQUIRE(memory_at(slot) != kZeros);
        REQUIRE(pool->in_use() == 1);
    }
    CHECK(memory_at(slot) == kZeros);
    CHECK(pool->in_use() == 0);
}

TEST_CASE("a move leaves one copy and gives the slot back once", "[crypto][secret]") {
    const auto pool = small_pool();
    {
        auto first = key_in(*pool);
        const Byte* slot = SecretBytes::of(first).data();
        const auto second = std::move(first);
        CHECK(SecretBytes::of(second).data() == slot);
        CHECK(pool->in_use() == 1);
    }
    CHECK(pool->in_use() == 0);
}

TEST_CASE("what a secret held before an assignment is wiped", "[crypto][secret]") {
    const auto pool = small_pool();
    auto old = key_in(*pool, 1);
    const Byte* old_slot = SecretBytes::of(old).data();
    old = key_in(*pool, 2);
    CHECK(memory_at(old_slot) == kZeros);
    CHECK(SecretBytes::of(old)[0] == 2);
    CHECK(pool->in_use() == 1);
    auto& same = old;
    old = std::move(same);
    CHECK(SecretBytes::of(old)[0] == 2);
}

TEST_CASE("adopting wipes the source, with or without a free slot", "[crypto][secret]") {
    const auto pool = small_pool(1);
    std::vector<SharedKey> all;
    ByteArray<32> source;
    for (;;) {
        source.fill(0x77);
        auto key = SharedKey::adopt(*pool, source);
        REQUIRE(source == kZeros);
        if (!key) {
            CHECK(key.error().is(Errc::secrets_full));
            break;
        }
        all.push_back(std::move(*key));
        REQUIRE(all.size() <= kSlotsPerChunk);
    }
    CHECK(pool->in_use() == all.size());
    all.pop_back();
    source.fill(0x77);
    CHECK(SharedKey::adopt(*pool, source).has_value());
}

TEST_CASE("a pool grows by whole chunks up to its bound", "[crypto][secret]") {
    const std::size_t most = kSlotsPerChunk + 1;  // needs a second chunk, never a third
    const auto pool = small_pool(most);
    std::vector<SharedKey> all;
    while (true) {
        ByteArray<32> source{};
        auto key = SharedKey::adopt(*pool, source);
        if (!key) break;
        all.push_back(std::move(*key));
        REQUIRE(all.size() <= 2 * kSlotsPerChunk);
    }
    CHECK(all.size() >= most);
    std::vector<const Byte*> slots;
    for (const auto& key : all) slots.push_back(SecretBytes::of(key).data());
    std::ranges::sort(slots);
    CHECK(std::ranges::adjacent_find(slots, [](auto a, auto b) { return b - a < 32; }) == slots.end());
}

TEST_CASE("slots lie between pages that cannot be read", "[crypto][secret]") {
    const auto pool = small_pool(1);
    std::vector<SharedKey> all;
    std::vector<const Byte*> slots;
    for (std::size_t i = 0; i < kSlotsPerChunk; ++i) {
        all.push_back(key_in(*pool));
        slots.push_back(SecretBytes::of(all.back()).data());
    }
    const auto [first, last] = std::ranges::minmax(slots);
    CHECK(is_readable(first));
    CHECK(is_readable(last + 31));
    CHECK_FALSE(is_readable(first - 1));
    CHECK_FALSE(is_readable(last + 32));
}

TEST_CASE("pages of secrets are locked and left out of core dumps", "[crypto][secret]") {
    const auto pool = small_pool();
    const auto key = key_in(*pool);
    const auto slot = reinterpret_cast<std::uintptr_t>(SecretBytes::of(key).data());
    std::ifstream maps("/proc/self/smaps");
    std::string line;
    std::string flags;
    for (bool ours = false; std::getline(maps, line);) {
        std::uintptr_t from = 0;
        std::uintptr_t to = 0;
        if (std::sscanf(line.c_str(), "%zx-%zx ", &from, &to) == 2) ours = from <= slot && slot < to;
        if (ours && line.starts_with("VmFlags:")) flags = line + " ";
    }
    INFO(flags);
    CHECK(flags.find(" dd ") != std::string::npos);
    if (os::kSanitized) {
        WARN("SKIPPED: a sanitizer makes mlock() do nothing");
        return;
    }
    if (!pool->all_locked()) {
        WARN("SKIPPED: this system locks no memory for us (ulimit -l)");
        return;
    }
    CHECK(flags.find(" lo ") != std::string::npos);
}

/// So many chunks, none of them locked, and then no more.
struct FewPages final : SecretPages {
    explicit FewPages(std::size_t chunks) : left(chunks) {}
    std::optional<Chunk> take() override {
        if (left == 0) return std::nullopt;
        --left;
        ++taken;
        return Chunk{bytes, false};
    }
    void give(MutableBytes) noexcept override { --taken; }
    ByteArray<64> bytes{};
    std::size_t left;
    std::size_t taken = 0;
};

TEST_CASE("a pool gives every chunk back, wiped, and those at once that it may not use", "[crypto][secret]") {
    FewPages pages(2);
    {
        const auto pool = SecretPool::create(pages, Locking::attempt, 100).value();
        const auto first = key_in(*pool);
        const auto second = key_in(*pool);
        CHECK(pages.taken == 1);
        CHECK(pages.bytes != ByteArray<64>{});
        CHECK_FALSE(pool->all_locked());
    }
    CHECK(pages.taken == 0);
    CHECK(pages.bytes == ByteArray<64>{});
    const auto strict = SecretPool::create(pages, Locking::require, 100);
    REQUIRE_FALSE(strict);
    CHECK(strict.error().is(Errc::memory_not_locked));
    CHECK(pages.taken == 0);
    const auto none = SecretPool::create(pages, Locking::attempt, 100);
    REQUIRE_FALSE(none);
    CHECK(none.error().is(Errc::secrets_full));
}

// In a child of its own: limits and uids do not come back.
int without_locked_memory() {
    if (::geteuid() == 0 && ::setresuid(65534, 65534, 65534) != 0) return 3;
    const rlimit none{0, 0};
    if (::setrlimit(RLIMIT_MEMLOCK, &none) != 0) return 3;
    const auto strict = SecretPool::create(os::secret_pages(), Locking::require, 10);
    if (strict || !strict.error().is(Errc::memory_not_locked)) return 1;
    const auto lax = SecretPool::create(os::secret_pages(), Locking::attempt, 10);
    return lax && !(*lax)->all_locked() ? 0 : 2;
}

TEST_CASE("memory that cannot be locked is an error, or is told", "[crypto][secret]") {
    if (os::kSanitized) {
        WARN("SKIPPED: a sanitizer makes mlock() do nothing");
        return;
    }
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) ::_exit(without_locked_memory());
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFEXITED(status));
    if (WEXITSTATUS(status) == 3) {
        WARN("SKIPPED: cannot give up the right to lock memory here");
        return;
    }
    CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("random secrets take their bytes from the source that is passed in", "[crypto][secret]") {
    const auto pool = small_pool();
    test::SeededRandom random(7);
    test::SeededRandom same(7);
    const auto key = EphemeralSecret::random(*pool, random);
    ByteArray<32> expected{};
    same.fill(expected);
    CHECK(std::ranges::equal(SecretBytes::of(*key), expected));
    CHECK(&key->pool() == pool.get());
}

TEST_CASE("wipe leaves zeros", "[crypto][secret]") {
    auto bytes = test::pattern(1000);
    wipe(bytes);
    CHECK(std::ranges::count(bytes, 0) == 1000);
    wipe({});
}

}  // namespace
}  // namespace curvegate::crypto
