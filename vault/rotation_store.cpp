#include "vault/rotation_store.hpp"

#include "os/file.hpp"
#include "vault/private_file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <span>
#include <system_error>
#include <utility>

namespace curvegate::vault {
namespace {

constexpr std::size_t kNameDigits = 16;
constexpr unsigned kLockStep = 20;  // milliseconds

std::string reason(const std::string& path) {
    return path + ": " + std::strerror(errno);
}

std::string words_of(const FileProblem& problem) {
    switch (problem.fault) {
        case FileFault::missing: return problem.detail + ": no such file";
        case FileFault::denied: return problem.detail + ": it must belong to the user that the vault runs as";
        case FileFault::unreadable: return problem.detail;
        case FileFault::not_regular: return problem.detail + ": not a regular file";
        case FileFault::wrong_owner:
            return problem.detail + ": belongs to somebody else; chown it to the vault's user";
        case FileFault::wrong_mode: return problem.detail + ": open to others; chmod 600 it";
    }
    return problem.detail;
}

bool lock(int fd, unsigned wait) {
    for (unsigned waited = 0;; waited += kLockStep) {
        if (::flock(fd, LOCK_EX | LOCK_NB) == 0) return true;
        if ((errno != EWOULDBLOCK && errno != EINTR) || waited >= wait) return false;
        ::usleep(kLockStep * 1000);
    }
}

Result<> write_at(int fd, Bytes bytes, std::size_t offset, const std::string& path) {
    while (!bytes.empty()) {
        const ssize_t wrote = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) return fail(RotationErrc::cannot_write, reason(path));
        bytes = bytes.subspan(static_cast<std::size_t>(wrote));
        offset += static_cast<std::size_t>(wrote);
    }
    if (::fdatasync(fd) != 0) return fail(RotationErrc::cannot_write, reason(path));
    return {};
}

Result<std::size_t> read_whole(int fd, MutableBytes into, const std::string& path) {
    std::size_t length = 0;
    while (length < into.size()) {
        const auto rest = into.subspan(length);
        const ssize_t got = ::pread(fd, rest.data(), rest.size(), static_cast<off_t>(length));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return fail(RotationErrc::unusable, reason(path));
        if (got == 0) break;
        length += static_cast<std::size_t>(got);
    }
    return length;
}

}  // namespace

std::string rotation_path(const std::string& state_dir, const crypto::PublicKey& key) {
    return state_dir + "/rotation." +
           crypto::encode_key(key.bytes(), crypto::KeyFormat::hex).substr(0, kNameDigits);
}

RotationState inherited_state(const std::string& state_dir, const crypto::PublicKey& key, std::string path) {
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(state_dir, ignored)) {
        if (!entry.path().filename().string().starts_with("rotation.")) continue;
        const auto fd = open_private(entry.path().string(), O_RDONLY);
        ByteArray<kRotationFileSize> content{};
        if (!fd || read_whole(fd->get(), content, {}).value_or(0) != content.size()) continue;
        auto chosen = choose_rotation(content);
        if (chosen && is_live(chosen->state, key)) return std::move(chosen->state);
    }
    return single_key(key, std::move(path));
}

Result<std::unique_ptr<RotationStore>> RotationStore::open(const std::string& path,
                                                           const RotationState& if_new, IfMissing if_missing,
                                                           unsigned lock_wait) {
    if (::access(path.c_str(), F_OK) != 0 && errno == ENOENT) {
        if (if_missing == IfMissing::none) return nullptr;
        if (is_folder_missing(path)) return fail(RotationErrc::no_folder, os::folder_of(path));
        // Empty at first, and filled under its lock; another vault that makes it at the same time is no harm.
        if (auto made = os::create_file(path, {}, 0600); !made && ::access(path.c_str(), F_OK) != 0)
            return fail(RotationErrc::cannot_write, made.error().detail());
    }
    auto fd = open_private(path, O_RDWR);
    if (!fd) return fail(RotationErrc::unusable, words_of(fd.error()));
    if (!lock(fd->get(), lock_wait)) return fail(RotationErrc::in_use, path);
    ByteArray<kRotationFileSize> content{};
    const auto size = read_whole(fd->get(), content, path);
    if (!size) return std::unexpected(size.error());
    std::unique_ptr<RotationStore> store(new RotationStore(path, std::move(*fd)));
    if (*size < content.size()) {
        // Never was whole, since it is written in place from then on: no rotation has begun.
        store->state_ = if_new;
        const auto fresh = new_rotation_file(store->state_);
        if (auto written = write_at(store->fd_.get(), fresh, 0, path); !written)
            return fail(std::move(written));
        return store;
    }
    auto chosen = choose_rotation(content);
    if (!chosen)
        return fail(
            chosen.error().is(RotationErrc::damaged) ? RotationErrc::damaged : RotationErrc::later_version,
            path);
    store->state_ = std::move(chosen->state);
    store->good_ = chosen->index;
    // A step that a crash cut short is completed, so that the older state is nowhere any more.
    const auto whole = encode(store->state_);
    const std::size_t other = 1 - store->good_;
    if (!std::ranges::equal(Bytes(content).subspan(other * kRotationRecordSize, kRotationRecordSize),
                            whole)) {
        if (auto written = store->write_record(other); !written) return fail(std::move(written));
    }
    return store;
}

Result<> RotationStore::write_record(std::size_t index) {
    return write_at(fd_.get(), encode(state_), index * kRotationRecordSize, path_);
}

bool RotationStore::is_this_file(int fd) const {
    // O_PATH opens what may be neither read nor written; its access mode is not O_RDWR.
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0 || (flags & O_ACCMODE) != O_RDWR) return false;
    struct stat theirs{};
    struct stat ours{};
    return ::fstat(fd, &theirs) == 0 && ::fstat(fd_.get(), &ours) == 0 && theirs.st_dev == ours.st_dev &&
           theirs.st_ino == ours.st_ino;
}

Result<> RotationStore::advance(const RotationState& next) {
    const RotationState before = std::exchange(state_, next);
    const std::size_t target = 1 - good_;
    if (auto written = write_record(target); !written) {
        // What that record holds now is unknown. The other one stands, and a later try takes a higher number.
        state_ = before;
        state_.sequence = next.sequence;
        return written;
    }
    good_ = target;
    // And the older state out of the file: should the newer record rot, a key that was dropped stays dropped.
    // Where that fails the step is done all the same, and the next start does it.
    (void)write_record(1 - target);
    return {};
}

}  // namespace curvegate::vault
