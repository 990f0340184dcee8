#include "vault/key_file.hpp"

#include "os/file.hpp"
#include "vault/key_text.hpp"
#include "vault/locked_buffer.hpp"
#include "vault/private_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace curvegate::vault {
namespace {

KeyFileErrc code_of(FileFault fault) {
    switch (fault) {
        case FileFault::missing: return KeyFileErrc::missing;
        case FileFault::denied: return KeyFileErrc::denied;
        case FileFault::unreadable: return KeyFileErrc::unreadable;
        case FileFault::not_regular: return KeyFileErrc::not_regular;
        case FileFault::wrong_owner: return KeyFileErrc::wrong_owner;
        case FileFault::wrong_mode: return KeyFileErrc::wrong_mode;
    }
    return KeyFileErrc::unreadable;
}

/// The same error with the path in front of what it says already.
Error named(const Error& error, const std::string& path) {
    for (const auto code :
         {KeyFileErrc::malformed, KeyFileErrc::public_mismatch, KeyFileErrc::wrong_passphrase,
          KeyFileErrc::passphrase_needed, KeyFileErrc::unreadable}) {
        if (error.is(code)) return {code, error.detail().empty() ? path : path + ": " + error.detail()};
    }
    return error;
}

/// Reads to the end of the file or of `into`, into locked memory only. Gives the length.
Result<std::size_t> read_into(int fd, MutableBytes into, const std::string& path) {
    std::size_t length = 0;
    while (length < into.size()) {
        const ssize_t got = ::read(fd, into.data() + length, into.size() - length);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail(KeyFileErrc::unreadable, path + ": " + std::strerror(errno));
        if (got == 0) break;
        length += static_cast<std::size_t>(got);
    }
    return length;
}

Result<LongTermKey> read_key(int fd, const std::string& path, crypto::SecretPool& pool,
                             const AskPassphrase& ask) {
    const LockedBuffer text(kLongestKeyFile + 1);
    const auto length = read_into(fd, text.bytes(), path);
    if (!length) return std::unexpected(length.error());
    if (*length > kLongestKeyFile) return fail(KeyFileErrc::malformed, path);
    auto key = parse_key(text.bytes().first(*length), pool, ask);
    if (!key) return std::unexpected(named(key.error(), path));
    return key;
}

Result<LongTermKey> load(const std::string& path, FileKind kind, crypto::SecretPool& pool,
                         const AskPassphrase& ask) {
    const auto fd = open_private(path, O_RDONLY, kind);
    if (!fd) return fail(code_of(fd.error().fault), fd.error().detail);
    return read_key(fd->get(), path, pool, ask);
}

}  // namespace

Result<LongTermKey> load_key(const std::string& path, crypto::SecretPool& pool, const AskPassphrase& ask) {
    return load(path, FileKind::own, pool, ask);
}

Result<LongTermKey> load_credential_key(const std::string& path, crypto::SecretPool& pool,
                                        const AskPassphrase& ask) {
    return load(path, FileKind::credential, pool, ask);
}

Result<LongTermKey> load_handed_key(int fd, const std::string& path, crypto::SecretPool& pool,
                                    const AskPassphrase& ask) {
    if (auto checked = check_private(fd, path); !checked)
        return fail(code_of(checked.error().fault), checked.error().detail);
    return read_key(fd, path, pool, ask);
}

Result<> store_key(const std::string& path, const LongTermKey& key, RandomSource& random,
                   std::optional<Bytes> passphrase) {
    struct stat info{};
    if (::lstat(path.c_str(), &info) == 0) return fail(KeyFileErrc::exists, path);
    std::optional<SealedSecret> sealed;
    if (passphrase) {
        auto done = seal_secret(key.secret, *passphrase, SealCost{}, random);
        if (!done) return fail(std::move(done));
        sealed = *done;
    }
    const LockedBuffer text(kLongestKeyFile);
    const std::size_t length = format_key(key, sealed, text.bytes());
    // The check above is for the words; it is O_EXCL in here that never overwrites.
    auto created = os::create_file(path, text.bytes().first(length), 0600);
    if (!created) return fail(KeyFileErrc::cannot_write, created.error().detail());
    return {};
}

}  // namespace curvegate::vault
