#pragma once

#include "base/bytes.hpp"
#include "base/random.hpp"
#include "base/result.hpp"
#include "base/secret_pages.hpp"
#include "crypto/errors.hpp"

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

namespace curvegate::crypto {

/// Starts libsodium. Call once at the start of a program. Error: no_library.
[[nodiscard]] Result<> initialise();

enum class Locking {
    require,  ///< pages that cannot be locked are an error
    attempt,  ///< go on; ask `all_locked()` and say so
};

/// Slots of 32 bytes for secrets, zeroed when given back, in the guarded pages that it takes. One pool a
/// thread (it has no lock); it must outlive its secrets.
class SecretPool {
  public:
    static constexpr std::size_t kSlotSize = 32;

    /// Takes the first chunk of `pages`, which outlive it. `max_slots`, rounded up to whole chunks, bounds
    /// the pool. Errors: memory_not_locked, secrets_full (no memory at all).
    [[nodiscard]] static Result<std::unique_ptr<SecretPool>> create(SecretPages& pages, Locking locking,
                                                                    std::size_t max_slots);
    ~SecretPool();
    SecretPool(const SecretPool&) = delete;
    SecretPool& operator=(const SecretPool&) = delete;

    [[nodiscard]] bool all_locked() const noexcept { return all_locked_; }
    [[nodiscard]] std::size_t in_use() const noexcept { return in_use_; }

  private:
    template <class Tag>
    friend class Secret;

    SecretPool(SecretPages& pages, Locking locking, std::size_t max_slots) noexcept
        : pages_(pages), locking_(locking), max_slots_(max_slots) {}
    [[nodiscard]] Result<> grow();
    [[nodiscard]] Result<Byte*> acquire();
    void release(Byte* slot) noexcept;

    SecretPages& pages_;
    Locking locking_;
    std::size_t max_slots_;
    std::size_t slots_ = 0;
    std::size_t in_use_ = 0;
    bool all_locked_ = true;
    std::vector<MutableBytes> chunks_;
    std::vector<Byte*> free_;  // kept outside the slots, which stay zero while free
};

/// 32 secret bytes with a meaning. Move-only; wiped when destroyed or moved from. There is no ==, no
/// formatter and no way to the bytes outside crypto and the vault (SecretBytes below is their key).
template <class Tag>
class Secret {
  public:
    static constexpr std::size_t kSize = SecretPool::kSlotSize;

    /// Fresh from `random`. Error: secrets_full, memory_not_locked.
    [[nodiscard]] static Result<Secret> random(SecretPool& pool, RandomSource& random) {
        auto out = blank(pool);
        if (out) random.fill(MutableBytes(out->slot_, kSize));
        return out;
    }
    /// Takes the bytes over: `source` is wiped. Error: secrets_full, memory_not_locked.
    [[nodiscard]] static Result<Secret> adopt(SecretPool& pool, MutableFixedBytes<kSize> source) {
        auto out = blank(pool);
        if (out) std::ranges::copy(source, out->slot_);
        wipe(source);
        return out;
    }

    Secret(Secret&& other) noexcept
        : pool_(std::exchange(other.pool_, nullptr)), slot_(std::exchange(other.slot_, nullptr)) {}
    Secret& operator=(Secret&& other) noexcept {
        if (this != &other) {
            reset();
            pool_ = std::exchange(other.pool_, nullptr);
            slot_ = std::exchange(other.slot_, nullptr);
        }
        return *this;
    }
    Secret(const Secret&) = delete;
    Secret& operator=(const Secret&) = delete;
    ~Secret() { reset(); }

    /// The pool it lives in, for secrets made from this one.
    [[nodiscard]] SecretPool& pool() const noexcept { return *pool_; }

  private:
    friend struct SecretBytes;
    Secret(SecretPool& pool, Byte* slot) noexcept : pool_(&pool), slot_(slot) {}
    [[nodiscard]] static Result<Secret> blank(SecretPool& pool) {
        auto slot = pool.acquire();
        if (!slot) return fail(std::move(slot));
        return Secret(pool, *slot);
    }
    void reset() noexcept {
        if (pool_ != nullptr) pool_->release(slot_);
        pool_ = nullptr;
        slot_ = nullptr;
    }
    static void wipe(MutableBytes bytes) noexcept;

    SecretPool* pool_;
    Byte* slot_;
};

struct LongTermTag;
struct EphemeralTag;
struct SharedTag;
struct SealTag;
struct OpenTag;
struct MinuteTag;
struct CookieTag;
struct PermutationTag;

using LongTermSecret = Secret<LongTermTag>;     ///< Ss or Cs; lives in the vault only
using EphemeralSecret = Secret<EphemeralTag>;   ///< ESs or ECs; one connection
using SharedKey = Secret<SharedTag>;            ///< crypto_box_beforenm of a secret and a public key
using MinuteKey = Secret<MinuteTag>;            ///< Ts, under which cookie keys are derived
using CookieKey = Secret<CookieTag>;            ///< a minute key bound to wire, slot and address
using PermutationKey = Secret<PermutationTag>;  ///< two round keys of a nonce permutation

/// Overwrites bytes in a way that the compiler keeps.
void wipe(MutableBytes bytes) noexcept;

template <class Tag>
void Secret<Tag>::wipe(MutableBytes bytes) noexcept {
    crypto::wipe(bytes);
}

}  // namespace curvegate::crypto
