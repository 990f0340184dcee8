#pragma once

#include "base/result.hpp"
#include "os/socket.hpp"
#include "vault/rotation_state.hpp"

#include <memory>
#include <string>

namespace curvegate::vault {

/// `STATE-DIR/rotation.<first 16 hex digits of the public key>`, of the key that `server-key` names.
[[nodiscard]] std::string rotation_path(const std::string& state_dir, const crypto::PublicKey& key);

/// The state in which a configured key finds itself that has no file of its own yet: if the file of another
/// key of this folder says that it is live, because that one was rotated to it, then the state in there, so
/// that naming the new key as `server-key` at any time changes nothing; else the key alone. `path` is the
/// key's.
[[nodiscard]] RotationState inherited_state(const std::string& state_dir, const crypto::PublicKey& key,
                                            std::string path);

/// The file of a RotationState, held open and locked. It has its full size before a vault confines itself,
/// and then is only ever written in place.
class RotationStore {
  public:
    enum class IfMissing {
        make,  ///< rotations are to be possible
        none,  ///< give nothing
    };
    /// Waits up to `lock_wait` milliseconds for another vault to let go of it.
    /// Errors: any of RotationErrc but other_key.
    [[nodiscard]] static Result<std::unique_ptr<RotationStore>> open(const std::string& path,
                                                                     const RotationState& if_new,
                                                                     IfMissing if_missing,
                                                                     unsigned lock_wait);

    [[nodiscard]] const RotationState& state() const noexcept { return state_; }
    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    /// Whether `fd` is this very file, opened for reading and writing: its owner can do what this store does
    /// anyway.
    [[nodiscard]] bool is_this_file(int fd) const;
    /// Makes `next` the state, for good: after a crash at any moment the file holds one of the two. On an
    /// error the state is what it was. Error: cannot_write.
    [[nodiscard]] Result<> advance(const RotationState& next);

  private:
    RotationStore(std::string path, os::UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
    [[nodiscard]] Result<> write_record(std::size_t index);

    std::string path_;
    os::UniqueFd fd_;
    RotationState state_;
    std::size_t good_ = 0;  // the record that is known to be on the disk
};

}  // namespace curvegate::vault
