#pragma once

#include "base/random.hpp"
#include "base/result.hpp"
#include "crypto/keys.hpp"
#include "crypto/secret.hpp"

#include <functional>
#include <optional>
#include <string>
#include <string_view>

/// Key files (docs/DESIGN.md "Key files"): text, mode 0600, that begins with a line no public key can be
/// mistaken for:
///
///     curvegate-secret-key 1
///     role: server
///     public: <base64>
///     secret: <base64>
///
/// or, sealed by a passphrase, `sealed: argon2id <ops> <KiB> <salt> <commitment> <nonce> <box>` for
/// `secret:`.
namespace curvegate::vault {

enum class KeyRole { server, client };
[[nodiscard]] std::string_view name_of(KeyRole role);

/// What a key file says without opening its secret.
struct KeyFileHeader {
    KeyRole role;
    crypto::PublicKey public_key;
    bool sealed;
};

/// A key ready for use, from a key file.
struct LongTermKey {
    KeyRole role;
    crypto::PublicKey public_key;
    crypto::LongTermSecret secret;
};

/// The user's fault, or the disk's; the detail begins with the path. Response: the vault refuses to start (66
/// missing, 74 unreadable, 77 denied, wrong_owner and wrong_mode, 78 all others), and a rotation does not
/// begin with such a key. The last two come of making a key: the command ends and has made nothing.
enum class KeyFileErrc {
    missing = 1,        ///< no file
    denied,             ///< this user may not read it
    unreadable,         ///< the system does not read it, or has no memory to unseal it; the detail says why
    wrong_owner,        ///< not ours and not root's
    wrong_mode,         ///< readable or writable by group or others: chmod 600
    not_regular,        ///< a symlink, directory, fifo...
    malformed,          ///< not a key file
    public_mismatch,    ///< the public line is not the secret's
    wrong_passphrase,   ///< the commitment does not match; typed on a terminal, it may be typed again
    passphrase_needed,  ///< sealed, and no passphrase is to be had
    exists,             ///< there is such a file, and none is ever overwritten
    cannot_write,       ///< the folder or the disk does not take it
};
[[nodiscard]] std::string_view describe(KeyFileErrc code);
[[nodiscard]] constexpr std::string_view layer_name(KeyFileErrc) {
    return "key file";
}

/// Asked when a sealed file needs its passphrase; writes it to `out` (locked memory) and gives its length,
/// or nothing if there is none to be had.
using AskPassphrase = std::function<std::optional<std::size_t>(MutableBytes out)>;
inline constexpr std::size_t kLongestPassphrase = 1024;

/// Reads `path`: owner and mode checked, symlinks refused. `pool` takes the secret; every other copy is
/// wiped.
[[nodiscard]] Result<LongTermKey> load_key(const std::string& path, crypto::SecretPool& pool,
                                           const AskPassphrase& ask);
/// The same for a file in $CREDENTIALS_DIRECTORY, which systemd may show with mode 0440.
[[nodiscard]] Result<LongTermKey> load_credential_key(const std::string& path, crypto::SecretPool& pool,
                                                      const AskPassphrase& ask);
/// The same from a descriptor that somebody else opened. It must be this user's own file.
[[nodiscard]] Result<LongTermKey> load_handed_key(int fd, const std::string& path, crypto::SecretPool& pool,
                                                  const AskPassphrase& ask);
/// From text already in memory: `text` is wiped.
[[nodiscard]] Result<LongTermKey> parse_key(MutableBytes text, crypto::SecretPool& pool,
                                            const AskPassphrase& ask);
/// The header alone: role and public key as the file says. Errors: malformed.
[[nodiscard]] Result<KeyFileHeader> parse_key_header(std::string_view text);

/// Writes a new key file, 0600, never over an existing one, fsync'ed with its folder. A passphrase seals it.
[[nodiscard]] Result<> store_key(const std::string& path, const LongTermKey& key, RandomSource& random,
                                 std::optional<Bytes> passphrase);

}  // namespace curvegate::vault
