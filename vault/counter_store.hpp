#pragma once

#include "base/random.hpp"
#include "base/result.hpp"
#include "crypto/keys.hpp"
#include "os/file.hpp"
#include "os/socket.hpp"
#include "vault/counter_slot.hpp"
#include "vault/nonce_counter.hpp"

#include <memory>
#include <string>
#include <variant>

namespace curvegate::vault {

/// `STATE-DIR/nonce.<first 16 hex digits of the public key>`. Its lock stands beside it: the same and
/// ".lock".
[[nodiscard]] std::string counter_path(const std::string& state_dir, const crypto::PublicKey& key);

/// How long to wait for another process to let go of a counter: a vault that is being replaced ends sooner.
inline constexpr unsigned kCounterLockWait = 2000;  // milliseconds

/// A key's counter file, held open and locked: two vaults never share one.
class CounterStore final : private SlotWriter {
  public:
    /// Locks, checks owner, mode, key and both slots, and makes the first block durable.
    /// Errors: any of CounterErrc.
    [[nodiscard]] static Result<std::unique_ptr<CounterStore>> open(const std::string& path,
                                                                    const crypto::PublicKey& key,
                                                                    unsigned lock_wait = kCounterLockWait);

    /// The same with descriptors of the counter's file and of its lock's that somebody else opened: a
    /// confined vault opens no file. `path` is for the words.
    [[nodiscard]] static Result<std::unique_ptr<CounterStore>> adopt(const std::string& path,
                                                                     const crypto::PublicKey& key,
                                                                     os::UniqueFd file, os::UniqueFd lock);

    [[nodiscard]] NonceCounter& counter() noexcept { return counter_; }
    [[nodiscard]] const CounterSalt& salt() const noexcept { return salt_; }
    /// One slot did not read, and numbers were skipped to be safe: worth a line in the log.
    [[nodiscard]] bool recovered() const noexcept { return recovered_; }
    [[nodiscard]] const std::string& path() const noexcept { return path_; }

  private:
    using Lock = std::variant<os::FileLock, os::UniqueFd>;  // held as long as it is open
    CounterStore(std::string path, Lock lock, os::UniqueFd fd, const CounterState& state)
        : path_(std::move(path)),
          lock_(std::move(lock)),
          fd_(std::move(fd)),
          salt_(state.slot.salt),
          recovered_(state.recovered),
          counter_(state, *this) {}
    [[nodiscard]] Result<> write_slot(std::size_t index, FixedBytes<kCounterSlotSize> slot) override;

    std::string path_;
    Lock lock_;
    os::UniqueFd fd_;
    CounterSalt salt_;
    bool recovered_;
    NonceCounter counter_;
};

enum class CounterInit {
    created,       ///< there was none
    replaced,      ///< what was there cannot be used; it was moved aside and a new one made
    already_good,  ///< nothing was changed
};
struct CounterInitResult {
    CounterInit done;
    std::string moved_to;  ///< of `replaced`: where the old file is now
};
/// Makes the counter of a key that has none: what keygen, import and `counter init` call. A new counter has a
/// fresh salt, so it cannot repeat a nonce of any counter before it. A good one is left as it is; one that is
/// short, damaged or used up is moved aside, never deleted; one of another key, of a later version or with a
/// wrong owner or mode is refused, since it may be somebody's.
/// Errors: unreadable, wrong_owner, wrong_mode, not_regular, other_key, later_version, in_use, cannot_write.
[[nodiscard]] Result<CounterInitResult> init_counter(const std::string& path, const crypto::PublicKey& key,
                                                     RandomSource& random,
                                                     unsigned lock_wait = kCounterLockWait);

}  // namespace curvegate::vault
